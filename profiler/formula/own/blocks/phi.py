"""A block of Phi: attention and a plain MLP side by side, behind one layer norm.

The order is that of transformers' `modeling_phi.py` (5.x), checked against the caching allocator's history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.own.blocks.plain import PlainBlock
from profiler.formula.own.linear import FLOAT32

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity


class PhiBlock(PlainBlock):
    """A block on a ledger of its own."""

    inputs = ("input_norm", "attended", "product")

    def forward(self) -> None:
        """Holds what the backward pass needs, and `output` but in a recomputation, which stops early."""
        ledger = self.ledger
        self._layer_norm("input_norm").forward()
        self._attention_forward()
        self._dropout("dense")
        self.layers["fc1"].forward()
        self._gelu("fc1").forward("product")
        self.layers["fc2"].forward()
        self._release_input("product", "fc2")
        self._dropout("fc2")
        if not self.is_recomputation:
            ledger.hold("branches", self.stream)
            ledger.hold("output", self.stream)
            ledger.release("branches")
        ledger.release("dense", "fc2")
        self._release_input("input_norm", "q_proj", "k_proj", "v_proj", "fc1")

    def backward(self) -> None:
        """Frees what was saved; `gradient` becomes that of the input."""
        ledger = self.ledger
        product = self.layers["fc2"].backward(self._dropout_backward("fc2"), frees="product")
        self._gelu("fc1").backward(product, "fc1.gradient")
        inner = self.layers["fc1"].backward("fc1.gradient")
        self._sum(self._attention_backward(), inner, "norm.gradient")
        inner = self._layer_norm("input_norm").backward("norm.gradient")
        self._sum(inner, "gradient", "gradient.sum")
        ledger.rename("gradient.sum", "gradient")
        ledger.release_if_held("input")

    @property
    def unneeded(self) -> Quantity:
        """The first block's input, its norm's moments, and an MLP that trains nothing."""
        own = self.stream + 2 * self.tokens * FLOAT32
        if self.layers["fc1"].is_adapted:
            return own
        inner = 4 * self._inner
        if self.layers["fc2"].is_adapted:
            return own + inner
        return own + inner + self.tokens * self.architecture.hidden_size

    def _attention_forward(self) -> None:
        """From the normed input to `dense`; queries and keys are turned in part, and put together anew."""
        ledger = self.ledger
        for name in ("q_proj", "k_proj", "v_proj"):
            self.layers[name].forward()
        for name in ("q", "k"):
            ledger.hold(f"{name}.rotated", ledger.size(f"{name}_proj"))
        self.attention.forward(ledger)
        if self._is_laid_out_anew:
            ledger.hold("attended.copy", ledger.size("attended"))
        self.layers["dense"].forward()
        ledger.release("q_proj", "k_proj")
        if self._is_laid_out_anew:
            self._release_input("attended.copy", "dense")
        elif not self.attention.saves_result:
            self._release_input("attended", "dense")

    def _attention_backward(self) -> str:
        """The name of the gradient of the normed input, as far as attention goes."""
        ledger, layers = self.ledger, self.layers
        source = "attended.copy" if self._is_laid_out_anew else ""
        frees = source if self.attention.saves_result else "attended"
        attended = layers["dense"].backward(self._dropout_backward("dense"), frees=frees)
        self.attention.backward(ledger, attended)
        for name in ("k", "q"):
            ledger.rename(f"{name}.rotated.gradient", f"{name}_proj.gradient")
        values = layers["v_proj"].backward("v_proj.gradient")
        keys = layers["k_proj"].backward("k_proj.gradient")
        self._sum(values, keys, "keys_and_values.gradient")
        queries = layers["q_proj"].backward("q_proj.gradient", frees="input_norm")
        self._sum("keys_and_values.gradient", queries, "attention.gradient")
        return "attention.gradient"

    @property
    def _is_laid_out_anew(self) -> bool:
        """Whether attention's result is copied: flash kernels keep the layout of the queries."""
        return self.attention.kernel == "flash"
