"""What an RMS norm holds: it is computed in float32 whatever its input is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.linear import FLOAT32

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity
    from profiler.formula.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class RmsNorm:
    """One RMS norm on a ledger, as transformers' `LlamaRMSNorm` computes it.

    Attributes:
        name: what its output is held as.
        ledger: what is followed.
        rows: vectors that are normed.
        width: elements of one of them.
        input_size: bytes an element of its input.
        output_size: bytes an element of its output.
        is_trained: whether its weight is trained.
    """

    name: str
    ledger: Ledger
    rows: Quantity
    width: int
    input_size: int
    output_size: int
    is_trained: bool

    @property
    def saves_input(self) -> bool:
        """Whether its backward pass needs its very input, not a float32 copy."""
        return self.input_size == FLOAT32

    def forward(self) -> None:
        """Computes it; its input is the caller's to free."""
        ledger = self.ledger
        if not self.saves_input:
            ledger.hold(f"{self.name}.input", self._elements * FLOAT32)
        ledger.pulse(self._elements * FLOAT32)  # the squares
        ledger.hold(f"{self.name}.deviations", self.rows * FLOAT32)
        ledger.hold("wide", self._elements * FLOAT32)
        if self.saves_input:
            ledger.rename("wide", f"{self.name}.normed")
        else:
            ledger.hold(f"{self.name}.normed", self._elements * self.input_size)
        ledger.hold(self.name, self._elements * self.output_size)
        if not self.is_trained:  # the weight's gradient needs it
            ledger.release(f"{self.name}.normed")
        ledger.release_if_held("wide")

    def backward(self, gradient: str) -> str:
        """Differentiates it: `gradient` is freed; returns the name of its input's gradient."""
        ledger, result, wide = self.ledger, f"{self.name}.input_gradient", self._elements * FLOAT32
        if self.is_trained:
            ledger.pulse(self._elements * self.output_size)
            ledger.hold("normed.gradient", self._elements * self.input_size)
            ledger.release(gradient, f"{self.name}.normed")
            ledger.rename("normed.gradient", gradient)
        if self.saves_input:
            ledger.rename(gradient, "wide")
        else:
            ledger.replace(gradient, "wide", wide)
        ledger.pulse(wide, wide, wide, wide)  # the parts by the deviation and by the input itself
        ledger.release("wide", f"{self.name}.deviations")
        ledger.release_if_held(f"{self.name}.input")
        ledger.hold(result, self._elements * self.input_size)
        return result

    @property
    def _elements(self) -> Quantity:
        return self.rows * self.width
