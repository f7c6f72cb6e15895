"""A block of the Llama family: attention and a gated MLP, each behind an RMS norm.

The order is that of transformers' `modeling_llama.py` (5.x), whose blocks Mistral's, Qwen2's and Qwen3's are
alike, checked against the caching allocator's history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.own.block import Block
from profiler.formula.own.linear import FLOAT32
from profiler.formula.own.norm import RmsNorm

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.attention import AttentionCost


class LlamaBlock(Block):
    """A block on a ledger of its own."""

    def __init__(self, attention: AttentionCost, *, is_recomputation: bool = False) -> None:
        """Lays out the layers of a block around its attention; nothing is held yet."""
        super().__init__(attention, is_recomputation=is_recomputation)
        self._held_before: dict[str, Quantity] = {}

    def forward(self) -> None:
        """Holds what the backward pass needs, and `output` but in a recomputation, which stops early."""
        self._attention_forward()
        self._add("input", "o_proj", "middle")
        self._norm("middle_norm").forward()
        self._mlp_forward(stops_early=self.is_recomputation)
        if not self.is_recomputation:
            self._add("middle", "down_proj", "output")
            return
        self.ledger.release_if_held("down_proj")
        if self.scheme.stream < FLOAT32:
            self.ledger.release("middle")

    def backward(self) -> None:
        """Frees what was saved; `gradient` becomes that of the input."""
        self._mlp_backward()
        self._norm_backward("middle_norm", "middle")
        self._attention_backward()
        self._norm_backward("input_norm", "input")

    def begin_backward(self) -> None:
        """The last layer's part that needs nothing saved."""
        self.layers["down_proj"].begin_backward("gradient", keeps_gradient=True)

    @property
    def unneeded(self) -> Quantity:
        """What is saved before the first layer that trains anything."""
        first = next((name for name, layer in self.layers.items() if layer.is_adapted), "q_proj")
        group = {"up_proj": "gate_proj"}.get(first, first)
        return self._held_before.get(group, super().unneeded)

    def _mark(self, name: str, source: str) -> None:
        """Notes what is held before a layer, besides its input and what is not saved."""
        stream = self.stream if self.scheme.stream < FLOAT32 else 0
        names = {"o_proj": ("input_norm",), "down_proj": ("middle_norm",)}.get(name, ())
        for norm in names:  # local variables of the forward pass
            if not self._saves_norm(norm):
                stream = stream + self.ledger.size(norm)
        self._held_before[name] = self.ledger.held_bytes - self.ledger.size(source) - stream

    def _saves_norm(self, name: str) -> bool:
        layers = ("q_proj", "k_proj", "v_proj") if name == "input_norm" else ("gate_proj", "up_proj")
        return any(self.layers[layer].saves_input for layer in layers)

    def _attention_forward(self) -> None:
        """From the norm before attention to `o_proj`."""
        ledger = self.ledger
        self._norm("input_norm").forward()
        self._project("q")
        self._project("k")
        self.layers["v_proj"].forward()
        self._rotate()
        self.attention.forward(ledger)
        self._mark("o_proj", "attended")
        self.layers["o_proj"].forward()
        if not self.attention.saves_result:
            self._release_input("attended", "o_proj")
        self._release_input("input_norm", "q_proj", "k_proj", "v_proj")

    def _mlp_forward(self, *, stops_early: bool) -> None:
        """From the norm before the MLP, which is held already, to `down_proj`."""
        ledger = self.ledger
        self._mark("gate_proj", "middle_norm")
        self.layers["gate_proj"].forward()
        ledger.hold("activated", self._inner)
        self.layers["up_proj"].forward()
        ledger.hold("product", self._inner)
        self._mark("down_proj", "product")
        self.layers["down_proj"].forward(stops_early=stops_early)
        self._release_input("product", "down_proj")
        self._release_input("middle_norm", "gate_proj", "up_proj")

    def _mlp_backward(self, gradient: str = "gradient", *, keeps_gradient: bool = True) -> None:
        ledger, layers = self.ledger, self.layers
        product = layers["down_proj"].backward(gradient, keeps_gradient=keeps_gradient, frees="product")
        ledger.hold("activated.gradient", self._inner)
        ledger.hold("up.gradient", self._inner)
        ledger.release(product, "activated", "up_proj")
        up = layers["up_proj"].backward("up.gradient")
        ledger.hold("gate.gradient", self._inner)
        ledger.release("activated.gradient", "gate_proj")
        gate = layers["gate_proj"].backward("gate.gradient", frees="middle_norm")
        self._sum(up, gate, "middle_norm.gradient")

    def _attention_backward(self, gradient: str = "gradient", *, keeps_gradient: bool = True) -> None:
        ledger, layers = self.ledger, self.layers
        frees = "" if self.attention.saves_result else "attended"
        attended = layers["o_proj"].backward(gradient, keeps_gradient=keeps_gradient, frees=frees)
        self.attention.backward(ledger, attended)
        self._rotate_backward()
        values = layers["v_proj"].backward("v_proj.gradient")
        keys = layers["k_proj"].backward("k_proj.gradient")
        self._sum(values, keys, "keys_and_values.gradient")
        queries = layers["q_proj"].backward("q_proj.gradient", frees="input_norm")
        self._sum("keys_and_values.gradient", queries, "input_norm.gradient")

    # Queries and keys: in some families normed by head, then turned by their positions

    def _head_norm(self, name: str) -> RmsNorm | None:
        """The norm of queries (`q`) or keys (`k`); None in families that have none."""
        architecture, scheme = self.architecture, self.scheme
        if not architecture.has_head_norms:
            return None
        num_heads = architecture.num_heads if name == "q" else architecture.num_kv_heads
        return RmsNorm(
            name=f"{name}.normed",
            ledger=self.ledger,
            rows=self.tokens * num_heads,
            width=architecture.head_dim,
            input_size=scheme.linear,
            output_size=max(scheme.linear, scheme.others),
            is_trained=scheme.trains_weights,
        )

    def _project(self, name: str) -> None:
        """Queries or keys: `q_proj` or `k_proj`, and `q.normed` or `k.normed` in its place."""
        self.layers[f"{name}_proj"].forward()
        norm = self._head_norm(name)
        if norm is not None:
            norm.forward()
            if not norm.saves_input:
                self.ledger.release(f"{name}_proj")

    def _rotate(self) -> None:
        """The product with the cosines, the half-turned copy's with the sines, and their sum."""
        sources = []
        for name in ("q", "k"):
            size = self._rotated(name)
            self.ledger.pulse(size, size, size)
            self.ledger.hold(f"{name}.rotated", size)
            sources.append(f"{name}.normed" if self.architecture.has_head_norms else f"{name}_proj")
        self.ledger.release(*sources)

    def _rotate_backward(self) -> None:
        for name in ("k", "q"):
            size = self._rotated(name)
            self.ledger.pulse(size, size, size)
            width, norm = self.layers[f"{name}_proj"].linear.out_features, self._head_norm(name)
            own = self.scheme.linear if norm is None else norm.output_size
            self.ledger.hold(f"{name}_proj.gradient", self.tokens * (width * own))
            self.ledger.release(f"{name}.rotated.gradient")
            if norm is not None:
                self.ledger.rename(f"{name}_proj.gradient", f"{name}.normed.gradient")
                inner = norm.backward(f"{name}.normed.gradient")
                self.ledger.rename(inner, f"{name}_proj.gradient")
                self.ledger.release_if_held(f"{name}_proj")

    def _rotated(self, name: str) -> Quantity:
        width = self.layers[f"{name}_proj"].linear.out_features
        return self.tokens * (width * max(self.scheme.linear, self.scheme.stream))

    @property
    def _inner(self) -> Quantity:
        return self.tokens * (self.architecture.intermediate_size * self.scheme.linear)
