"""A block of Gemma 2: attention and a gated MLP, each between two RMS norms.

The order is that of transformers' `modeling_gemma2.py` (5.x), checked against the allocator's history.
"""

from __future__ import annotations

from profiler.formula.own.blocks.llama import LlamaBlock
from profiler.formula.own.linear import FLOAT32
from profiler.formula.own.norm import GemmaNorm


class Gemma2Block(LlamaBlock):
    """A block on a ledger of its own."""

    def forward(self) -> None:
        """Holds what the backward pass needs, and `output` but in a recomputation, which stops early."""
        self._attention_forward()
        self._norm_branch("attended_norm", "o_proj")
        self._add("input", "attended_norm", "middle")
        self._norm("middle_norm").forward()
        self._mlp_forward(stops_early=False)
        self._norm_branch("output_norm", "down_proj")
        if not self.is_recomputation:
            self._add("middle", "output_norm", "output")
        else:
            self.ledger.release("output_norm")
            if self.scheme.stream < FLOAT32:
                self.ledger.release("middle")

    def backward(self) -> None:
        """Frees what was saved; `gradient` becomes that of the input."""
        self._mlp_backward(self._branch_backward("output_norm", "down_proj"), keeps_gradient=False)
        self._norm_backward("middle_norm", "middle")
        self._attention_backward(self._branch_backward("attended_norm", "o_proj"), keeps_gradient=False)
        self._norm_backward("input_norm", "input")

    def begin_backward(self) -> None:
        """The part of the last norm that needs nothing saved."""
        self._norm("output_norm").begin_backward("gradient")

    def _norm(self, name: str) -> GemmaNorm:
        width = self.architecture.hidden_size
        return GemmaNorm.of_stream(
            name, ledger=self.ledger, tokens=self.tokens, width=width, scheme=self.scheme
        )

    def _norm_branch(self, name: str, layer: str) -> None:
        """The norm of what a branch adds to the residual stream."""
        self._norm(name).forward()
        if self.scheme.stream < FLOAT32:
            self.ledger.release(layer)

    def _branch_backward(self, name: str, layer: str) -> str:
        gradient = self._norm(name).backward("gradient", keeps_gradient=True)
        self.ledger.release_if_held(layer)
        return gradient

    def _norm_backward(self, name: str, source: str) -> None:
        """The gradient that goes around the norm is nobody else's: it is added to in place."""
        inner = self._norm(name).backward(f"{name}.gradient")
        self.ledger.release(inner)
        self.ledger.release_if_held(source)
