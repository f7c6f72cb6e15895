"""Blocks that drop out a tenth of what their branches add to the residual stream (Phi-2, GPT-2)."""

from __future__ import annotations

from profiler.formula.own.block import Block


class DropoutBlock(Block):
    """A block with dropout on its branches.

    Its probability does not matter, as long as there is one: with 0 torch leaves dropout out.
    """

    def _dropout(self, name: str) -> None:
        """A branch before it is added: what is left of it, and a byte an element that says what is not."""
        self.ledger.hold(f"{name}.mask", self.tokens * self.architecture.hidden_size)
        self.ledger.rename(name, "whole")
        self.ledger.replace("whole", name, self.stream)

    def _dropout_backward(self, name: str) -> str:
        self.ledger.hold(f"{name}.gradient", self.stream)
        self.ledger.release(f"{name}.mask")
        return f"{name}.gradient"
