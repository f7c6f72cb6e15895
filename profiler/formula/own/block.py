"""What one decoder block holds while it is computed and differentiated: its figures, and how they are found.

A family's own module gives the order of its block's tensors; here is what the families share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.breakdown import select
from profiler.formula.own.ledger import Ledger
from profiler.formula.own.linear import FLOAT32, LinearLayer
from profiler.formula.own.norm import RmsNorm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from profiler.formula.architecture import Linear
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.attention import AttentionCost


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
        escaped: kept until the whole backward pass is over, in spite of checkpointing too, but for the
            reentrant one: bitsandbytes' 8-bit product keeps its input where torch does not see it.
        embedded: kept by what comes before the first block, where that must be differentiated.
        gradients: gradients of its weights and adapters that it leaves.
    """

    output: Quantity
    saved: Quantity
    unneeded: Quantity
    forward: Quantity
    backward: Quantity
    recomputed: Quantity
    escaped: Quantity
    embedded: Quantity
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
            embedded=self.embedded,
            gradients=self.gradients,
        )


def follow(make: type[Block], attention: AttentionCost) -> BlockCost:
    """Follows one block, around its attention, forward, backward, and through recomputation."""
    block = make(attention)
    ledger = block.ledger
    ledger.hold("input", block.stream)
    block.forward()
    escaped = block.let_escape()
    saved, forward = ledger.held_bytes - ledger.size("output"), ledger.peak_bytes - block.stream
    ledger.release("output")
    ledger.hold("gradient", block.stream)
    ledger.restart_peak()
    block.backward()
    again = make(attention, is_recomputation=not attention.job.gradient_checkpointing.reentrant)
    again.ledger.hold("gradient", block.stream)
    if again.is_recomputation:
        again.begin_backward()
    again.forward()
    if not again.is_recomputation:  # a graph of its own, which is differentiated
        again.let_escape()
    again.backward()
    return BlockCost(
        output=block.stream,
        saved=saved,
        unneeded=block.unneeded,
        forward=forward,
        backward=ledger.peak_bytes,
        recomputed=again.ledger.peak_bytes,
        escaped=escaped,
        embedded=block.embedded,
        gradients=block.gradients,
    )


class Block:
    """A block on a ledger of its own. The block's input is held as `input`, its gradient as `gradient`."""

    inputs: tuple[str, ...] = ("input_norm", "attended", "middle_norm", "product")
    """What its linear layers take."""

    def __init__(self, attention: AttentionCost, *, is_recomputation: bool = False) -> None:
        """Lays out the layers of a block around its attention; nothing is held yet.

        Args:
            attention: of the block.
            is_recomputation: whether its forward pass only looks up what the first one would have saved, as
                torch's checkpointing does it that is not reentrant, and stops once all is found.
        """
        self.is_recomputation = is_recomputation
        self.ledger = Ledger()
        self.attention = attention
        self.architecture, self.scheme = attention.architecture, attention.scheme
        self.tokens = attention.shape.tokens
        self.stream = self.tokens * (self.architecture.hidden_size * self.scheme.stream)
        self.layers = {linear.name: self._layer(linear) for linear in self.architecture.linears}

    def forward(self) -> None:
        """Holds what the backward pass needs, and `output` but in a recomputation, which stops early."""
        raise NotImplementedError

    def backward(self) -> None:
        """Frees what was saved; `gradient` becomes that of the input."""
        raise NotImplementedError

    def begin_backward(self) -> None:
        """The part of the backward pass that needs nothing saved: what recomputation finds held already."""

    @property
    def unneeded(self) -> Quantity:
        """Of what is saved, what the first block does not keep where its input needs no gradient."""
        return self.tokens * ((self.architecture.hidden_size + 1) * FLOAT32)

    @property
    def gradients(self) -> int:
        """Bytes of the gradients that one block leaves, unless they were added to those that are there."""
        if self.scheme.accumulates:
            return 0
        if self.scheme.trains_weights:
            return sum(layer.weight_gradient for layer in self.layers.values())
        return sum(layer.adapter_gradients for layer in self.layers.values() if layer.is_adapted)

    @property
    def embedded(self) -> Quantity:
        """What the embeddings keep for their own backward pass, besides the first block's input."""
        return 0

    def let_escape(self) -> Quantity:
        """The inputs of 8-bit products, which bitsandbytes keeps by itself until the whole graph is gone."""
        if self.scheme.base != "8bit":
            return 0
        escaped: Quantity = 0
        for name in self.inputs:
            self.ledger.pin(name)
            escaped = escaped + self.ledger.size(name)
        return escaped

    # Small steps

    def _layer(self, linear: Linear) -> LinearLayer:
        input_size = self.scheme.stream
        if linear.name == "o_proj":
            input_size = self.attention.element_bytes
        elif linear.name == "down_proj":
            input_size = self.scheme.linear
        return LinearLayer(
            linear=linear,
            scheme=self.scheme,
            ledger=self.ledger,
            tokens=self.tokens,
            input_size=input_size,
            is_recomputed=self.is_recomputation,
        )

    def _norm(self, name: str) -> RmsNorm:
        width = self.architecture.hidden_size
        return RmsNorm.of_stream(
            name, ledger=self.ledger, tokens=self.tokens, width=width, scheme=self.scheme
        )

    def _norm_backward(self, name: str, source: str) -> None:
        """Also adds the gradient that goes around the norm."""
        inner = self._norm(name).backward(f"{name}.gradient")
        self.ledger.hold("sum", self.stream)
        self.ledger.release(inner, "gradient")
        self.ledger.rename("sum", "gradient")
        self.ledger.release_if_held(source)

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
