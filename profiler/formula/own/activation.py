"""What GELU holds where it is written out in single steps (transformers' `NewGELUActivation`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class StepwiseGelu:
    """`x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))` on a ledger, every step a tensor.

    Attributes:
        ledger: what is followed.
        source: the name of its input, which is saved.
        size: bytes of each tensor.
    """

    ledger: Ledger
    source: str
    size: Quantity

    def forward(self, result: str) -> None:
        """Computes it; saves the half, the tangent, and one more than it."""
        ledger, size = self.ledger, self.size
        ledger.hold("half", size)
        ledger.pulse(size, size)  # the cube and its multiples, each from the one before
        ledger.hold("tangent", size)
        ledger.pulse(size)
        ledger.hold("tangent.plus", size)
        ledger.hold(result, size)

    def backward(self, gradient: str, result: str) -> None:
        """Differentiates it; frees `gradient` and what was saved, holds `result`."""
        ledger, size = self.ledger, self.size
        ledger.hold("tangent.gradient", size)
        ledger.hold("half.gradient", size)
        ledger.release(gradient, "half", "tangent.plus")
        ledger.replace("tangent.gradient", "sum.gradient", size)
        ledger.release("tangent")
        ledger.replace("sum.gradient", result, size)
        ledger.pulse(size, size, size, size)  # the cube's derivative
        ledger.release(self.source)
        ledger.pulse(size)
        ledger.release("half.gradient")
