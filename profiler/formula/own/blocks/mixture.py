"""A block of Mixtral or Qwen3-MoE: Llama's attention, and experts behind a router in place of the MLP.

The order is that of transformers' `modeling_mixtral.py` and `modeling_qwen3_moe.py` (5.x), checked against
the caching allocator's history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.own.blocks.llama import LlamaBlock
from profiler.formula.own.experts import Experts
from profiler.formula.own.linear import FLOAT32

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.attention import AttentionCost


class MixtureBlock(LlamaBlock):
    """A block on a ledger of its own."""

    inputs = ("input_norm", "attended")

    def __init__(self, attention: AttentionCost, *, is_recomputation: bool = False) -> None:
        """Lays out attention and experts."""
        super().__init__(attention, is_recomputation=is_recomputation)
        self.experts = Experts(
            architecture=self.architecture, scheme=self.scheme, ledger=self.ledger, tokens=self.tokens
        )

    def forward(self) -> None:
        """Holds what the backward pass needs, and `output` but in a recomputation, which stops early."""
        self._attention_forward()
        self._add("input", "o_proj", "middle")
        self._norm("middle_norm").forward()
        self.experts.forward(is_recomputation=self.is_recomputation)
        if not self.is_recomputation:
            self._add("middle", "experts", "output")
        elif self.scheme.stream < FLOAT32:
            self.ledger.release("middle")

    def backward(self) -> None:
        """Frees what was saved; `gradient` becomes that of the input."""
        self.experts.backward()
        self._norm_backward("middle_norm", "middle")
        self._attention_backward()
        self._norm_backward("input_norm", "input")

    def begin_backward(self) -> None:
        """The experts' part that needs nothing saved."""
        self.experts.begin_backward()

    @property
    def gradients(self) -> int:
        """Bytes of the gradients that one block leaves."""
        return super().gradients + self.experts.gradients

    @property
    def escaped(self) -> Quantity:
        """Inputs of attention's 8-bit products; the experts are not quantized."""
        if self.scheme.base != "8bit":
            return 0
        return self.tokens * (
            (self.architecture.hidden_size + self.architecture.q_width) * self.scheme.stream
        )
