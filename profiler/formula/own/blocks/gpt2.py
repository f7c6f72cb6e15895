"""A block of GPT-2: attention and a plain MLP, each behind a layer norm.

The order is that of transformers' `modeling_gpt2.py` (5.x), checked against the caching allocator's history.
Its `Conv1D` is a linear layer whose matrix is stored the other way round.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.formula.own.blocks.plain import PlainBlock
from profiler.formula.own.linear import FLOAT32

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.attention import AttentionCost

_NAMES = ("qkv", "attention_output", "fc", "mlp_output")
"""Of its layers: transformers has one name for the last of attention and the last of the MLP."""


class Gpt2Block(PlainBlock):
    """A block on a ledger of its own."""

    def __init__(self, attention: AttentionCost, *, is_recomputation: bool = False) -> None:
        """Lays out the layers under names of their own."""
        super().__init__(attention, is_recomputation=is_recomputation)
        self.layers = {
            name: replace(self._layer(linear), held_as=name)
            for name, linear in zip(_NAMES, self.architecture.linears, strict=True)
        }

    def forward(self) -> None:
        """Holds what the backward pass needs, and `output` but in a recomputation, which stops early."""
        ledger = self.ledger
        self._layer_norm("input_norm").forward()
        self._attention_forward()
        self._dropout("attention_output")
        ledger.hold("middle", self.stream)
        self._release_input("input_norm", "qkv")
        self._layer_norm("middle_norm").forward()
        self.layers["fc"].forward()
        self._gelu("fc").forward("product")
        self.layers["mlp_output"].forward()
        self._release_input("product", "mlp_output")
        self._dropout("mlp_output")
        if not self.is_recomputation:
            ledger.hold("output", self.stream)
        self._release_input("middle_norm", "fc")
        ledger.release("attention_output", "mlp_output")

    def backward(self) -> None:
        """Frees what was saved; `gradient` becomes that of the input."""
        layers = self.layers
        product = layers["mlp_output"].backward(self._dropout_backward("mlp_output"), frees="product")
        self._gelu("fc").backward(product, "fc.gradient")
        inner = layers["fc"].backward("fc.gradient", frees="middle_norm")
        self._branch_backward(inner, "middle_norm", "middle")
        self._branch_backward(self._attention_backward(), "input_norm", "input")

    @property
    def unneeded(self) -> Quantity:
        """The first block's input, and its norm's two moments a token."""
        return self.stream + 2 * self.tokens * FLOAT32

    @property
    def embedded(self) -> Quantity:
        """Dropout's mask; of frozen embeddings, which are made to have a gradient, also what they are."""
        mask = self.tokens * self.architecture.hidden_size
        return mask if self.scheme.trains_weights else mask + self.stream

    def _attention_forward(self) -> None:
        """From the normed input to `attention_output`; queries, keys and values are parts of one tensor."""
        ledger = self.ledger
        self.layers["qkv"].forward()
        ledger.release("qkv")
        for name in ("q.rotated", "k.rotated", "v_proj"):
            ledger.hold(name, self._queries)
        self.attention.forward(ledger)
        self.layers["attention_output"].forward()

    def _attention_backward(self) -> str:
        """The name of the gradient of the normed input."""
        ledger, layers = self.ledger, self.layers
        attended = layers["attention_output"].backward(self._dropout_backward("attention_output"))
        self.attention.backward(ledger, attended)
        ledger.hold("qkv.gradient", 3 * self._queries)
        ledger.release("q.rotated.gradient", "k.rotated.gradient", "v_proj.gradient")
        return layers["qkv"].backward("qkv.gradient", frees="input_norm")

    def _branch_backward(self, gradient: str, norm: str, source: str) -> None:
        """The gradient that goes around the norm is nobody else's: it is added to in place."""
        self.ledger.release(self._layer_norm(norm).backward(gradient))
        self.ledger.release_if_held(source)

    @property
    def _queries(self) -> Quantity:
        return self.tokens * (self.architecture.q_width * self.scheme.linear)
