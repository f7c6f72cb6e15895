"""What one linear layer holds while it is computed and differentiated: plain, quantized, with an adapter.

Follows `torch.nn.Linear`, bitsandbytes' `MatMul4Bit` and peft's `lora.layer.Linear`, in the order of the
caching allocator's history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.formula.architecture import Linear
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.ledger import Ledger
    from profiler.formula.own.scheme import Scheme

FLOAT32 = 4
BLOCK_SIZE = 64
"""Weights that share one scale in bitsandbytes' 4-bit types (its default `blocksize`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLayer:
    """One linear layer of a block on a ledger.

    Attributes:
        linear: its shape.
        scheme: the job's types.
        ledger: what is followed; the layer's output is held under its name.
        tokens: rows of its input.
        input_size: bytes an element of its input.
        is_recomputed: whether it is computed anew for the backward pass.
        held_as: what its output is held as, where another layer of the block has its name.
    """

    linear: Linear
    scheme: Scheme
    ledger: Ledger
    tokens: Quantity
    input_size: int
    is_recomputed: bool = False
    held_as: str = ""

    @property
    def name(self) -> str:
        """What its output is held as."""
        return self.held_as or self.linear.name

    @property
    def is_adapted(self) -> bool:
        """Whether it has an adapter."""
        return self.scheme.is_adapted(self.linear)

    @property
    def saves_input(self) -> bool:
        """Whether its backward pass needs its very input, not a copy in another type."""
        if self.scheme.trains_weights:
            return self.input_size == self.scheme.matmul
        if self.scheme.base == "8bit" and not self.is_recomputed:
            return True  # MatMul8bitLt keeps its input, though it needs it for trained matrices only
        return self.is_adapted and not self._casts_input and not self._has_dropout

    def forward(self, *, stops_early: bool = False) -> None:
        """Computes it.

        Args:
            stops_early: leave out what follows its last saved tensor, as recomputation does.
        """
        if self.scheme.base == "plain":
            self._plain_forward(stops_early=stops_early and self.scheme.trains_weights)
        else:
            self._quantized_forward()
        if self.is_adapted:
            self._adapter_forward(stops_early=stops_early)

    def backward(self, gradient: str, *, keeps_gradient: bool = False, frees: str = "") -> str:
        """Differentiates it; returns the name under which the gradient of its input is held.

        Args:
            gradient: the name of its output's gradient, which is freed.
            keeps_gradient: another use of that gradient is to come, so that it is not.
            frees: its input, where it was the last that needed it.
        """
        if self.is_adapted:
            return self._adapted_backward(gradient, keeps_gradient=keeps_gradient, frees=frees)
        return self._plain_backward(gradient, keeps_gradient=keeps_gradient, frees=frees)

    def begin_backward(self, gradient: str, *, keeps_gradient: bool = False) -> None:
        """The part of `backward` that needs nothing saved: what recomputation finds held already."""
        ledger, scheme = self.ledger, self.scheme
        if not self.is_adapted:
            return
        if not self._casts_gradient:
            ledger.hold("scaled", self._output(self._adapter_size))
            return
        ledger.hold("wide", self._output(self._adapter_size))
        if self._casts_sum:
            if not keeps_gradient:
                ledger.release(gradient)
            ledger.hold("base_gradient", self._output(scheme.linear))
        ledger.replace("wide", "scaled", self._output(self._adapter_size))

    @property
    def weight_gradient(self) -> int:
        """Bytes of the gradient of its matrix."""
        return self._matrix(self.scheme.weights)

    @property
    def adapter_gradients(self) -> int:
        """Bytes of the gradients of its adapter."""
        return self._num_adapter_elements * self.scheme.adapter_size

    # The layer itself

    def _plain_forward(self, *, stops_early: bool) -> None:
        """Under autocast input and matrix are cast; the gradient of the input needs the matrix's copy."""
        ledger, scheme = self.ledger, self.scheme
        if scheme.weights != scheme.matmul:
            ledger.hold(f"{self.name}.matrix", self._matrix(scheme.matmul))
        if self.input_size != scheme.matmul:
            ledger.hold(f"{self.name}.cast", self._input(scheme.matmul))
        if not stops_early:
            ledger.hold(self.name, self._output(scheme.linear))
        if not scheme.trains_weights:  # the gradient of the matrix needs the input
            ledger.release_if_held(f"{self.name}.cast")

    def _plain_backward(self, gradient: str, *, keeps_gradient: bool, frees: str) -> str:
        ledger, scheme = self.ledger, self.scheme
        result = f"{self.name}.input_gradient"
        if scheme.trains_weights:
            if scheme.weights != scheme.matmul:
                ledger.pulse(self._matrix(scheme.matmul), self._matrix(scheme.weights))
            ledger.hold(f"{self.name}.weight_gradient", self.weight_gradient)
        self._base_gradient(gradient, result, keeps_gradient=keeps_gradient)
        ledger.release_if_held(f"{self.name}.cast", frees)
        if scheme.trains_weights and scheme.accumulates:
            ledger.release(f"{self.name}.weight_gradient")
        return result

    def _quantized_forward(self) -> None:
        if self.scheme.base == "8bit":
            self._int8_forward()
            return
        ledger, scheme = self.ledger, self.scheme
        is_cast = self.input_size != scheme.matmul
        if is_cast:
            ledger.hold("input.cast", self._input(scheme.matmul))
        scales, matrix = self._scales(), self._matrix(scheme.matmul)
        ledger.pulse(scales, scales, matrix, self._output(scheme.matmul))
        if scheme.linear == scheme.matmul:
            ledger.hold(self.name, self._output(scheme.linear))
        else:
            ledger.hold("output.narrow", self._output(scheme.matmul))
            ledger.replace("output.narrow", self.name, self._output(scheme.linear))
        if is_cast:
            ledger.release("input.cast")
        if self.is_adapted:
            ledger.pulse(self._output(scheme.linear))  # peft clones the result before it adds to it

    def _int8_forward(self) -> None:
        """The input as float16 and by rows in 8 bits; the product in 32-bit integers, then in float16."""
        ledger, rows = self.ledger, self._input(1)
        ledger.pulse(self._input(2), rows, self._input(2), rows)
        ledger.pulse(rows, self._output(4), self._output(2), self._output(self.scheme.linear))
        ledger.hold(self.name, self._output(self.scheme.linear))

    def _base_gradient(self, gradient: str, result: str, *, keeps_gradient: bool) -> None:
        """The gradient of the input through the layer's own matrix."""
        match self.scheme.base:
            case "plain":
                self._plain_gradient(gradient, result, keeps_gradient=keeps_gradient)
            case "4bit":
                self._4bit_gradient(gradient, result, keeps_gradient=keeps_gradient)
            case "8bit":
                self.ledger.pulse(self._matrix(self.input_size), self._input(self.input_size))
                self.ledger.hold(result, self._input(self.input_size))
                if not keeps_gradient:
                    self.ledger.release(gradient)

    def _plain_gradient(self, gradient: str, result: str, *, keeps_gradient: bool) -> None:
        ledger, scheme = self.ledger, self.scheme
        ledger.hold(result, self._input(scheme.matmul))
        ledger.release_if_held(f"{self.name}.matrix")
        if not keeps_gradient:
            ledger.release(gradient)
        if self.input_size != scheme.matmul:
            ledger.rename(result, "input_gradient.narrow")
            ledger.replace("input_gradient.narrow", result, self._input(self.input_size))

    def _4bit_gradient(self, gradient: str, result: str, *, keeps_gradient: bool) -> None:
        ledger, scheme = self.ledger, self.scheme
        is_cast = scheme.linear != scheme.matmul
        if is_cast:
            ledger.hold("gradient.narrow", self._output(scheme.matmul))
            if not keeps_gradient:
                ledger.release(gradient)
        ledger.pulse(self._scales(), self._matrix(scheme.matmul))
        ledger.pulse(self._matrix(scheme.matmul), self._input(scheme.matmul))
        ledger.hold("input_gradient.narrow", self._input(scheme.matmul))
        if is_cast:
            ledger.release("gradient.narrow")
        elif not keeps_gradient:
            ledger.release(gradient)
        if self.input_size == scheme.matmul:
            ledger.rename("input_gradient.narrow", result)
        else:
            ledger.replace("input_gradient.narrow", result, self._input(self.input_size))

    # The adapter

    def _adapter_forward(self, *, stops_early: bool) -> None:
        ledger, scheme, delta = self.ledger, self.scheme, self._adapter_size
        if self._casts_input:
            if scheme.autocast and self.input_size != FLOAT32 == scheme.adapter_size:
                ledger.hold("input.wide", self._input(FLOAT32))  # peft casts it up, autocast down
            ledger.hold(f"{self.name}.adapter_input", self._input(delta))
        if scheme.adapter_size != delta:
            ledger.hold(f"{self.name}.adapter_copies", self._num_adapter_elements * delta)
        if self._has_dropout:
            ledger.hold(f"{self.name}.dropped", self._input(delta))
            ledger.hold(f"{self.name}.dropout_mask", self._input(1))
            ledger.release_if_held(f"{self.name}.adapter_input")
        ledger.hold(f"{self.name}.narrow", self._narrow())
        if stops_early:
            ledger.release_if_held("input.wide")
            return
        ledger.pulse(self._output(delta), self._output(delta))  # B's product, and that product scaled
        ledger.hold("delta", self._output(delta))
        ledger.hold("sum", self._output(max(delta, scheme.linear)))
        ledger.release("delta", self.name)
        if max(delta, scheme.linear) == scheme.linear:
            ledger.rename("sum", self.name)
        else:
            ledger.replace("sum", self.name, self._output(scheme.linear))
        ledger.release_if_held("input.wide")

    def _adapted_backward(self, gradient: str, *, keeps_gradient: bool, frees: str) -> str:
        ledger = self.ledger
        if "scaled" not in ledger:
            self.begin_backward(gradient, keeps_gradient=keeps_gradient)
        if self._casts_sum:
            gradient, keeps_gradient = "base_gradient", False
        ledger.hold(f"{self.name}.adapter_gradients", self.adapter_gradients)
        ledger.hold("narrow_gradient", self._narrow())
        ledger.release("scaled", f"{self.name}.narrow")
        ledger.release_if_held(f"{self.name}.adapter_copies")
        ledger.hold("adapter_path", self._input(self._adapter_size))
        ledger.release("narrow_gradient")
        if self.scheme.accumulates:
            ledger.release(f"{self.name}.adapter_gradients")
        if self._has_dropout:
            ledger.release(f"{self.name}.dropped")
            ledger.pulse(self._input(self._adapter_size))
            ledger.release(f"{self.name}.dropout_mask")
        ledger.release_if_held(f"{self.name}.adapter_input", frees)
        result = f"{self.name}.input_gradient"
        if self._adapter_size != self.input_size:  # what is cast is nobody else's, and is added to in place
            ledger.replace("adapter_path", result, self._input(self.input_size))
            self._base_gradient(gradient, "base_path", keeps_gradient=keeps_gradient)
            ledger.release("base_path")
            return result
        self._base_gradient(gradient, "base_path", keeps_gradient=keeps_gradient)
        ledger.hold(result, self._input(self.input_size))
        ledger.release("adapter_path", "base_path")
        return result

    # Sizes in bytes

    @property
    def _num_adapter_elements(self) -> int:
        return self.scheme.rank * (self.linear.in_features + self.linear.out_features)

    @property
    def _adapter_size(self) -> int:
        """Bytes an element of what the adapter computes with; peft keeps adapters in float32 if not told."""
        return 2 if self.scheme.autocast else self.scheme.adapter_size

    @property
    def _casts_input(self) -> bool:
        """Whether the adapter computes with a copy of its input; quantized layers leave that to autocast."""
        if self.scheme.autocast and self.scheme.base == "plain" and self.scheme.adapter_size == FLOAT32:
            return True
        return self.input_size != self._adapter_size

    @property
    def _casts_gradient(self) -> bool:
        """Whether the adapter's part was cast down, alone or in the sum with the layer's own."""
        return self._adapter_size > self.scheme.linear

    @property
    def _casts_sum(self) -> bool:
        """Whether it is the sum that was cast, as peft's plain layers do it; its quantized ones do before."""
        return self._casts_gradient and self.scheme.base == "plain"

    @property
    def _has_dropout(self) -> bool:
        adapter = self.scheme.adapter
        return adapter is not None and adapter.dropout > 0

    def _input(self, size: int) -> Quantity:
        return self.tokens * (self.linear.in_features * size)

    def _output(self, size: int) -> Quantity:
        return self.tokens * (self.linear.out_features * size)

    def _narrow(self) -> Quantity:
        return self.tokens * (self.scheme.rank * self._adapter_size)

    def _matrix(self, size: int) -> int:
        return self.linear.num_weights * size

    def _scales(self) -> int:
        """A 4-bit matrix's scales, dequantized."""
        return self.linear.num_weights // BLOCK_SIZE * FLOAT32
