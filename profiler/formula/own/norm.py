"""What norms hold: RMS norms are computed in float32 whatever their input is, a layer norm in one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from profiler.formula.own.linear import FLOAT32

if TYPE_CHECKING:
    from typing import Self

    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.ledger import Ledger
    from profiler.formula.own.scheme import Scheme


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

    @classmethod
    def of_stream(cls, name: str, *, ledger: Ledger, tokens: Quantity, width: int, scheme: Scheme) -> Self:
        """A norm of the residual stream."""
        return cls(
            name=name,
            ledger=ledger,
            rows=tokens,
            width=width,
            input_size=scheme.stream,
            output_size=scheme.stream,
            is_trained=scheme.trains_weights,
        )

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
        ledger, wide = self.ledger, self._elements * FLOAT32
        if self.is_trained:
            ledger.pulse(self._elements * self.output_size)
            ledger.hold("normed.gradient", self._elements * self.input_size)
            ledger.release(gradient, f"{self.name}.normed")
            ledger.rename("normed.gradient", gradient)
        if self.saves_input:
            ledger.rename(gradient, "wide")
        else:
            ledger.replace(gradient, "wide", wide)
        return self._root_backward()

    def _root_backward(self) -> str:
        """From `wide`, the gradient of what was divided by the root of the mean square."""
        ledger, result, wide = self.ledger, f"{self.name}.input_gradient", self._elements * FLOAT32
        ledger.pulse(wide, wide, wide, wide)  # the parts by the deviation and by the input itself
        ledger.release("wide", f"{self.name}.deviations")
        ledger.release_if_held(f"{self.name}.input")
        ledger.hold(result, self._elements * self.input_size)
        return result

    @property
    def _elements(self) -> Quantity:
        return self.rows * self.width


class GemmaNorm(RmsNorm):
    """One RMS norm as transformers' `Gemma2RMSNorm` computes it: the weight is applied in float32 too."""

    def forward(self) -> None:
        """Computes it; its input is the caller's to free."""
        ledger, wide = self.ledger, self._elements * FLOAT32
        if not self.saves_input:
            ledger.hold(f"{self.name}.input", wide)
        ledger.pulse(wide)  # the squares
        ledger.hold(f"{self.name}.deviations", self.rows * FLOAT32)
        ledger.hold(f"{self.name}.normed", wide)
        ledger.hold("wide", wide)
        if not self.is_trained:  # the weight's gradient needs it
            ledger.release(f"{self.name}.normed")
        if self.output_size == FLOAT32:
            ledger.rename("wide", self.name)
        else:
            ledger.replace("wide", self.name, self._elements * self.output_size)

    def begin_backward(self, gradient: str) -> None:
        """The part of `backward` that needs nothing saved; the gradient is kept."""
        if self.output_size < FLOAT32:
            assert gradient in self.ledger
            self.ledger.hold(f"{self.name}.wide_gradient", self._elements * FLOAT32)

    def backward(self, gradient: str, *, keeps_gradient: bool = False) -> str:
        """Differentiates it; returns the name of its input's gradient.

        Args:
            gradient: the name of its output's gradient, which is freed.
            keeps_gradient: another use of that gradient is to come, so that it is not.
        """
        ledger, wide = self.ledger, self._elements * FLOAT32
        if f"{self.name}.wide_gradient" not in ledger:
            self.begin_backward(gradient)
        if not keeps_gradient and self.output_size < FLOAT32:
            ledger.release(gradient)
        if self.is_trained:
            ledger.pulse(wide, wide)  # the product for the weight, and that for the input
        ledger.hold("scaled", wide)
        ledger.release_if_held(f"{self.name}.wide_gradient", f"{self.name}.normed")
        if not keeps_gradient and self.output_size == FLOAT32:
            ledger.release(gradient)
        ledger.pulse(wide, wide)
        ledger.replace("scaled", "wide", wide)
        return self._root_backward()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """One layer norm on a ledger, as `torch.nn.LayerNorm` computes it: from its very input.

    Attributes:
        name: what its output is held as.
        ledger: what is followed.
        rows: vectors that are normed.
        width: elements of one of them.
        size: bytes an element of its input and its output.
    """

    name: str
    ledger: Ledger
    rows: Quantity
    width: int
    size: int
    saves_input: ClassVar[bool] = True

    def forward(self) -> None:
        """Computes it; its input is saved."""
        self.ledger.hold(self.name, self.rows * (self.width * self.size))
        for moment in ("mean", "deviations"):
            self.ledger.hold(f"{self.name}.{moment}", self.rows * FLOAT32)

    def backward(self, gradient: str) -> str:
        """Differentiates it: `gradient` is freed; returns the name of its input's gradient."""
        result = f"{self.name}.input_gradient"
        self.ledger.hold(result, self.rows * (self.width * self.size))
        self.ledger.release(gradient, f"{self.name}.mean", f"{self.name}.deviations")
        return result


def norm_of(
    architecture: Architecture, scheme: Scheme, ledger: Ledger, tokens: Quantity, *, name: str
) -> RmsNorm | LayerNorm:
    """A norm of the residual stream, of the kind that a model has."""
    width = architecture.hidden_size
    if architecture.has_norm_bias:
        return LayerNorm(name=name, ledger=ledger, rows=tokens, width=width, size=scheme.stream)
    kind = GemmaNorm if architecture.model_type == "gemma2" else RmsNorm
    return kind.of_stream(name, ledger=ledger, tokens=tokens, width=width, scheme=scheme)
