"""What the experts of one block hold: one product over the rows of all experts, sorted by expert.

Follows transformers' `integrations/moe.py` (`grouped_mm_experts_forward`), which keeps the matrices of all
experts in one tensor each, and peft's `ParamWrapper`, which adds an adapter's product to such a tensor anew
in every forward pass. bitsandbytes quantizes `nn.Linear` only: the experts' matrices stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.own.linear import FLOAT32

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.ledger import Ledger
    from profiler.formula.own.scheme import Scheme

GATE_AND_UP = 2
"""Matrices that one tensor holds side by side; its adapters have so many times the rank (peft)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The router and the experts of one block on a ledger.

    They take `middle_norm`, which they free, and hold `experts`, a tensor of the residual stream.

    Attributes:
        tokens: rows of their input; each passes through some of the experts.
    """

    architecture: Architecture
    scheme: Scheme
    ledger: Ledger
    tokens: Quantity

    @property
    def is_adapted(self) -> bool:
        """Whether router and experts have adapters."""
        return self.scheme.adapts_experts(self.architecture)

    @property
    def gradients(self) -> int:
        """Bytes of the gradients that they leave."""
        if self.scheme.trains_weights:
            return (sum(self.matrices) + self.router) * self.scheme.weights
        return sum(self.adapters) * FLOAT32 if self.is_adapted else 0

    @property
    def matrices(self) -> tuple[int, int]:
        """Elements of the tensor of gate and up matrices, and of that of down matrices."""
        down = self.architecture.num_experts * self._inner * self.architecture.hidden_size
        return GATE_AND_UP * down, down

    @property
    def router(self) -> int:
        """Elements of the router's matrix."""
        return self.architecture.num_experts * self.architecture.hidden_size

    @property
    def adapters(self) -> tuple[int, ...]:
        """Elements of A and B of gate and up, of down, and of the router."""
        hidden, num_experts, rank = (
            self.architecture.hidden_size,
            self.architecture.num_experts,
            self.scheme.rank,
        )
        wide = num_experts * rank
        return (
            *(GATE_AND_UP * wide * hidden, GATE_AND_UP * self._inner * GATE_AND_UP * wide),
            *(wide * self._inner, hidden * wide),
            *(rank * hidden, num_experts * rank),
        )

    def forward(self, *, is_recomputation: bool = False) -> None:
        """Routes, gathers every expert's rows, multiplies, and sums up what experts say of a token."""
        ledger = self.ledger
        self._route()
        if self.is_adapted and self._size < FLOAT32:
            ledger.hold("experts.factors", sum(self.adapters[:4]) * self._size)
        ledger.hold("rows", self._rows(self.architecture.hidden_size))
        self._patch("gate_up")
        ledger.hold("gate_up", self._rows(GATE_AND_UP * self._inner))
        ledger.hold("activated", self._rows(self._inner))
        ledger.hold("product", self._rows(self._inner))
        self._patch("down")
        ledger.hold("expert_output", self._rows(self.architecture.hidden_size))
        if not self._trains:
            ledger.release("product")
        ledger.hold("weighted", self._weighted)
        if is_recomputation:
            ledger.release("weighted")
            self._release_locals()
            return
        ledger.replace("weighted", "sorted", self._weighted)
        ledger.hold("experts", self._stream(self._weighted_size))
        if self._is_widened:
            ledger.rename("experts", "wide")
            ledger.replace("wide", "experts", self._stream(self._size))
        ledger.release("sorted")
        self._release_locals()

    def _release_locals(self) -> None:
        """What nothing but the functions themselves held."""
        if not self._trains:
            self.ledger.release("middle_norm", "rows")

    def begin_backward(self) -> None:
        """The gradient of the sum, once for every expert of a token, which needs nothing saved."""
        if self._is_widened:
            self.ledger.hold("sum.gradient", self._stream(FLOAT32))
        self.ledger.hold("expanded.gradient", self._weighted)
        self.ledger.release_if_held("sum.gradient")

    def backward(self) -> None:
        """Frees what was saved; holds `middle_norm.gradient`."""
        ledger = self.ledger
        if "expanded.gradient" not in ledger:
            self.begin_backward()
        ledger.replace("expanded.gradient", "weighted.gradient", self._weighted)
        self._weights_backward()
        self._down_backward()
        self._gate_up_backward()
        ledger.hold("middle_norm.gradient", self._stream(self._size))
        ledger.release("rows.gradient")
        ledger.pulse(self._stream(self._size))  # the router's part, which is added in place
        ledger.release_if_held("middle_norm", "experts.factors", "router", "router.matrix")
        ledger.hold("experts.gradients", self.gradients - self._patched_gradients)
        ledger.release_if_held("patched.gradients")

    def _route(self) -> None:
        """Probabilities of all experts; weights, indices and orders of the chosen ones."""
        architecture = self.architecture
        if self.is_adapted:
            self.ledger.hold("router.matrix", self.router * self._size)
        chosen = architecture.num_experts_per_token * (FLOAT32 + 6 * 8)
        self.ledger.hold("router", self.tokens * (architecture.num_experts * FLOAT32 + chosen))

    def _patch(self, name: str) -> None:
        """A matrix with its adapter's product added, which is kept for the backward pass."""
        if not self.is_adapted:
            return
        size, factor = self._matrix(name), self._factor(name)
        self.ledger.hold(f"{name}.patched", size)
        self.ledger.pulse(factor)

    def _weights_backward(self) -> None:
        """The product with the router's weights: the gradient of either side."""
        ledger = self.ledger
        ledger.hold("output.gradient", self._weighted)
        ledger.hold("weights.gradient", self._weighted)
        if self._is_widened:
            ledger.rename("output.gradient", "wide")
            ledger.replace("wide", "output.gradient", self._rows(self.architecture.hidden_size))
        ledger.release("weights.gradient", "weighted.gradient", "expert_output")

    def _down_backward(self) -> None:
        ledger = self.ledger
        self._matrix_gradient("down")
        ledger.hold("product.gradient", self._rows(self._inner))
        ledger.release("output.gradient")
        ledger.release_if_held("product", "down.patched")
        self._adapter_gradient("down")
        ledger.hold("up.gradient", self._rows(self._inner))
        ledger.hold("activated.gradient", self._rows(self._inner))
        ledger.release("product.gradient", "activated")
        ledger.hold("gate.gradient", self._rows(self._inner))
        ledger.release("activated.gradient")

    def _gate_up_backward(self) -> None:
        ledger = self.ledger
        ledger.release("gate_up")
        ledger.hold("gate_up.gradient", self._rows(GATE_AND_UP * self._inner))
        ledger.release("gate.gradient", "up.gradient")
        self._matrix_gradient("gate_up")
        ledger.hold("rows.gradient", self._rows(self.architecture.hidden_size))
        ledger.release("gate_up.gradient")
        ledger.release_if_held("rows", "gate_up.patched")
        self._adapter_gradient("gate_up")

    def _matrix_gradient(self, name: str) -> None:
        """Stays where the matrix itself is trained."""
        if self._trains:
            self.ledger.hold(f"{name}.matrix_gradient", self._matrix(name))

    def _adapter_gradient(self, name: str) -> None:
        """From the gradient of the patched matrix to those of the factors, of their casts' type."""
        if self.is_adapted:
            self.ledger.hold(f"{name}.factor_gradients", self._factors(name) * self._size)
            self.ledger.pulse(self._factor(name))
            self.ledger.release(f"{name}.matrix_gradient")

    # Sizes in bytes

    @property
    def _trains(self) -> bool:
        return self.scheme.trains_weights or self.is_adapted

    @property
    def _patched_gradients(self) -> int:
        """Gradients that are held already when the last is made."""
        if self.scheme.trains_weights:
            return sum(self.matrices) * self.scheme.weights
        return sum(self.adapters[:4]) * self._size if self.is_adapted else 0

    @property
    def _size(self) -> int:
        """Bytes an element of what experts compute with: they are never quantized."""
        return self.scheme.others

    @property
    def _inner(self) -> int:
        return self.architecture.expert_linears[0].out_features

    @property
    def _weighted_size(self) -> int:
        """Bytes an element of weighted outputs: Mixtral weighs in float32, Qwen3 in the stream's type."""
        return FLOAT32 if self.architecture.model_type == "mixtral" else self._size

    @property
    def _is_widened(self) -> bool:
        return self._weighted_size > self._size

    @property
    def _weighted(self) -> Quantity:
        """Every expert's output, weighted."""
        num_rows = self.tokens * self.architecture.num_experts_per_token
        return num_rows * (self.architecture.hidden_size * self._weighted_size)

    def _rows(self, width: int) -> Quantity:
        return self.tokens * (self.architecture.num_experts_per_token * width * self._size)

    def _stream(self, size: int) -> Quantity:
        return self.tokens * (self.architecture.hidden_size * size)

    def _matrix(self, name: str) -> int:
        return self.matrices[0 if name == "gate_up" else 1] * self._size

    def _factors(self, name: str) -> int:
        return sum(self.adapters[:2] if name == "gate_up" else self.adapters[2:4])

    def _factor(self, name: str) -> int:
        """B, laid out anew."""
        return self.adapters[1 if name == "gate_up" else 3] * self._size
