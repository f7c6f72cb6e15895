"""Blocks with layer norms, a plain MLP with GELU, and dropout on what their branches add (Phi-2, GPT-2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.own.block import Block
from profiler.formula.own.norm import LayerNorm

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.ledger import Ledger


class PlainBlock(Block):
    """A block on a ledger of its own.

    The probability of its dropout does not matter, as long as there is one: with 0 torch leaves dropout out.
    """

    def _layer_norm(self, name: str) -> LayerNorm:
        width, size = self.architecture.hidden_size, self.scheme.stream
        return LayerNorm(name=name, ledger=self.ledger, rows=self.tokens, width=width, size=size)

    @property
    def _inner(self) -> Quantity:
        """What the MLP has between its matrices."""
        return self.tokens * (self.architecture.intermediate_size * self.scheme.linear)

    def _gelu(self, source: str) -> StepwiseGelu:
        return StepwiseGelu(ledger=self.ledger, source=source, size=self._inner)

    def _dropout(self, name: str) -> None:
        """A branch before it is added: what is left of it, and a byte an element that says what is not."""
        self.ledger.hold(f"{name}.mask", self.tokens * self.architecture.hidden_size)
        self.ledger.rename(name, "whole")
        self.ledger.replace("whole", name, self.stream)

    def _dropout_backward(self, name: str) -> str:
        self.ledger.hold(f"{name}.gradient", self.stream)
        self.ledger.release(f"{name}.mask")
        return f"{name}.gradient"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepwiseGelu:
    """`x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))` on a ledger, every step a tensor.

    As transformers' `NewGELUActivation` writes it out.

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
