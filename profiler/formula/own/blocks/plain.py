"""Blocks with layer norms, a plain MLP with GELU, and dropout on what their branches add (Phi-2, GPT-2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.own.activation import StepwiseGelu
from profiler.formula.own.block import Block
from profiler.formula.own.norm import LayerNorm

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity


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
