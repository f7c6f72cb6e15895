"""What one decoder block holds while it is computed and differentiated, tensor by tensor.

The order is that of transformers' `modeling_llama.py` (5.x), whose blocks Mistral's and Qwen2's are alike,
checked against the caching allocator's history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.breakdown import select
from profiler.formula.ledger import Ledger
from profiler.formula.linear import FLOAT32, LinearLayer
from profiler.formula.norm import RmsNorm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from profiler.formula.architecture import Linear
    from profiler.formula.attention import AttentionCost
    from profiler.formula.breakdown import Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCost:
    """What one block holds, in bytes, besides weights and what other blocks hold.

    Attributes:
        output: its output, which is the next block's input.
        saved: kept from its forward pass for its backward pass, without its output.
        unneeded: of `saved`, what the first block does not keep where the embeddings need no gradient.
        forward: the most its forward pass holds besides its input.
        backward: the most its backward pass holds, saved tensors and the gradient of its output included.
        recomputed: the same where the forward pass is done anew first, its input not counted.
        escaped: kept in spite of checkpointing: bitsandbytes' 8-bit product keeps its input where torch's
            checkpointing (other than the reentrant one) does not see it.
        gradients: gradients of its weights and adapters.
    """

    output: Quantity
    saved: Quantity
    unneeded: Quantity
    forward: Quantity
    backward: Quantity
    recomputed: Quantity
    escaped: Quantity
    gradients: int

    def where(self, holds: bool | NDArray[np.bool_], other: BlockCost) -> BlockCost:
        """These costs for the jobs of which something holds, the other's for the rest."""
        return BlockCost(
            output=select(holds, self.output, other.output),
            saved=select(holds, self.saved, other.saved),
            unneeded=select(holds, self.unneeded, other.unneeded),
            forward=select(holds, self.forward, other.forward),
            backward=select(holds, self.backward, other.backward),
            recomputed=select(holds, self.recomputed, other.recomputed),
            escaped=select(holds, self.escaped, other.escaped),
            gradients=self.gradients,
        )


def block_cost(attention: AttentionCost) -> BlockCost:
    """Follows one block, around its attention, forward, backward, and through recomputation."""
    block = _Block(attention)
    ledger = block.ledger
    ledger.hold("input", block.stream)
    block.forward()
    saved, forward = ledger.held_bytes - ledger.size("output"), ledger.peak_bytes - block.stream
    ledger.release("output")
    ledger.hold("gradient", block.stream)
    ledger.restart_peak()
    block.backward()
    again = _Block(attention)
    again.ledger.hold("gradient", block.stream)
    again.layers["down_proj"].begin_backward("gradient", keeps_gradient=True)
    again.forward(is_recomputation=True)
    again.backward()
    return BlockCost(
        output=block.stream,
        saved=saved,
        unneeded=block.tokens * ((block.architecture.hidden_size + 1) * FLOAT32),
        forward=forward,
        backward=ledger.peak_bytes,
        recomputed=again.ledger.peak_bytes,
        escaped=block.escaped,
        gradients=block.gradients,
    )


class _Block:
    """A block on a ledger of its own."""

    def __init__(self, attention: AttentionCost) -> None:
        self.ledger = Ledger()
        self.attention = attention
        self.architecture, self.scheme = attention.architecture, attention.scheme
        self.tokens = attention.shape.tokens
        self.stream = self.tokens * (self.architecture.hidden_size * self.scheme.stream)
        self.layers = {linear.name: self._layer(linear) for linear in self.architecture.linears}

    @property
    def gradients(self) -> int:
        """Bytes of the gradients that one block leaves."""
        if self.scheme.trains_weights:
            return sum(layer.weight_gradient for layer in self.layers.values())
        return sum(layer.adapter_gradients for layer in self.layers.values() if layer.is_adapted)

    @property
    def escaped(self) -> Quantity:
        """Inputs of the block's products, where they are 8-bit ones."""
        if self.scheme.base != "8bit":
            return 0
        hidden, queries = self.architecture.hidden_size, self.architecture.q_width
        widths = 2 * hidden + queries + self.architecture.intermediate_size
        return self.tokens * (widths * self.scheme.stream)

    def forward(self, *, is_recomputation: bool = False) -> None:
        """Holds what the backward pass needs, and `output` but in a recomputation, which stops early."""
        ledger = self.ledger
        self._norm("input_norm").forward()
        self._project("q")
        self._project("k")
        self.layers["v_proj"].forward()
        self._release_input("input_norm", "q_proj", "k_proj", "v_proj")
        self._rotate()
        self.attention.forward(ledger)
        self.layers["o_proj"].forward()
        if not self.attention.saves_result:
            self._release_input("attended", "o_proj")
        self._add("input", "o_proj", "middle")
        self._norm("middle_norm").forward()
        self.layers["gate_proj"].forward()
        ledger.hold("activated", self._inner)
        self.layers["up_proj"].forward()
        self._release_input("middle_norm", "gate_proj", "up_proj")
        ledger.hold("product", self._inner)
        self.layers["down_proj"].forward(stops_early=is_recomputation)
        self._release_input("product", "down_proj")
        if not is_recomputation:
            self._add("middle", "down_proj", "output")
        else:
            ledger.release_if_held("down_proj")

    def backward(self) -> None:
        """Frees what was saved; `gradient` becomes that of the input."""
        ledger, layers = self.ledger, self.layers
        product = layers["down_proj"].backward("gradient", keeps_gradient=True, frees="product")
        ledger.hold("activated.gradient", self._inner)
        ledger.hold("up.gradient", self._inner)
        ledger.release(product, "activated", "up_proj")
        up = layers["up_proj"].backward("up.gradient")
        ledger.hold("gate.gradient", self._inner)
        ledger.release("activated.gradient", "gate_proj")
        gate = layers["gate_proj"].backward("gate.gradient", frees="middle_norm")
        self._sum(up, gate, "middle_norm.gradient")
        self._norm_backward("middle_norm", "middle")
        attended = layers["o_proj"].backward("gradient", keeps_gradient=True)
        self.attention.backward(ledger, attended)
        self._rotate_backward()
        values = layers["v_proj"].backward("v_proj.gradient")
        keys = layers["k_proj"].backward("k_proj.gradient")
        self._sum(values, keys, "keys_and_values.gradient")
        queries = layers["q_proj"].backward("q_proj.gradient", frees="input_norm")
        self._sum("keys_and_values.gradient", queries, "input_norm.gradient")
        self._norm_backward("input_norm", "input")

    def _layer(self, linear: Linear) -> LinearLayer:
        is_after_product = linear.name in {"o_proj", "down_proj"}
        input_size = self.scheme.linear if is_after_product else self.scheme.stream
        return LinearLayer(
            linear=linear,
            scheme=self.scheme,
            ledger=self.ledger,
            tokens=self.tokens,
            input_size=input_size,
        )

    def _norm(self, name: str) -> RmsNorm:
        return RmsNorm(
            name=name,
            ledger=self.ledger,
            rows=self.tokens,
            width=self.architecture.hidden_size,
            input_size=self.scheme.stream,
            output_size=self.scheme.stream,
            is_trained=self.scheme.trains_weights,
        )

    def _norm_backward(self, name: str, source: str) -> None:
        """Also adds the gradient that goes around the norm."""
        inner = self._norm(name).backward(f"{name}.gradient")
        self.ledger.hold("sum", self.stream)
        self.ledger.release(inner, "gradient")
        self.ledger.rename("sum", "gradient")
        self.ledger.release_if_held(source)

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

    # Small steps

    @property
    def _inner(self) -> Quantity:
        return self.tokens * (self.architecture.intermediate_size * self.scheme.linear)

    def _add(self, residual: str, branch: str, result: str) -> None:
        """The residual stream goes on; before a norm in float32 the old one is saved."""
        self.ledger.replace(branch, result, self.stream)
        if self.scheme.stream < FLOAT32:
            self.ledger.release_if_held(residual)

    def _release_input(self, name: str, *layers: str) -> None:
        """Frees a layer's input unless a layer saves it."""
        if not any(self.layers[layer].saves_input for layer in layers):
            self.ledger.release(name)

    def _sum(self, first: str, second: str, result: str) -> None:
        self.ledger.hold("sum", self.ledger.size(first))
        self.ledger.release(first, second)
        self.ledger.rename("sum", result)
