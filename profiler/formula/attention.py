"""What attention holds between the projections, by implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from profiler.formula.linear import FLOAT32
from profiler.spec.job import Attention, AttentionMask

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity, Shape
    from profiler.formula.ledger import Ledger
    from profiler.formula.scheme import Scheme
    from profiler.spec.job import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCost:
    """Attention from the rotated queries and keys to the input of the output projection.

    Attributes:
        is_windowed: whether the length reaches the model's sliding window.
    """

    job: JobSpec
    architecture: Architecture
    scheme: Scheme
    shape: Shape
    is_windowed: bool

    @property
    def kernel(self) -> Literal["flash", "efficient", "eager"]:
        """The kernel that torch chooses: flash ones compute in 16 bits and take no mask."""
        if self.job.attention is Attention.EAGER:
            return "eager"
        if self._size == FLOAT32 or self.has_mask:
            return "efficient"
        return "flash"

    @property
    def has_mask(self) -> bool:
        """Whether SDPA is given a mask: transformers leaves one out that says nothing."""
        if self.job.attention is not Attention.SDPA:
            return False
        return self.is_windowed or self.job.attention_mask is AttentionMask.PADDED

    def forward(self, ledger: Ledger) -> None:
        """Takes `q.rotated`, `k.rotated` and `v_proj`, holds `attended`."""
        if self._size != max(self.scheme.linear, self.scheme.stream):  # autocast
            for name, size in (("q.rotated", self._queries), ("k.rotated", self._keys)):
                ledger.rename(name, "wide")
                ledger.replace("wide", name, size)
        if self._size != self.scheme.linear:
            ledger.rename("v_proj", "wide")
            ledger.replace("wide", "v_proj", self._keys)
        if self.repeats_keys:
            ledger.hold("keys.repeated", self._queries)
            ledger.hold("values.repeated", self._queries)
            ledger.release("k.rotated", "v_proj")
        if self.kernel == "eager":
            self._eager_forward(ledger)
        else:
            ledger.hold("attended", self._queries)
            ledger.hold("normalizers", self._per_head)

    def backward(self, ledger: Ledger, gradient: str) -> None:
        """Frees what was saved and `gradient`; holds the gradients of queries, keys and values."""
        ledger.hold("q.rotated.gradient", self._wide(self._queries))
        ledger.hold("k.rotated.gradient", self._wide(self._keys))
        ledger.hold("v_proj.gradient", self._keys)
        if self.kernel == "eager":
            self._eager_backward(ledger)
        else:
            repeated = (self._queries, self._queries) if self._is_grouped else ()
            accumulated = self.shape.tokens * (self.architecture.q_width * FLOAT32)
            ledger.pulse(self._per_head, accumulated, *repeated)
            ledger.release("normalizers")
        ledger.release(gradient, "q.rotated")
        ledger.release_if_held("attended", "k.rotated", "v_proj", "keys.repeated", "values.repeated")

    @property
    def saves_result(self) -> bool:
        """Whether its result is needed for its own backward pass."""
        return self.kernel != "eager"

    @property
    def mask_bytes(self) -> Quantity:
        """The mask that all blocks share: true or false for SDPA, numbers to add for eager attention."""
        if self.kernel == "eager":
            size = self.scheme.stream
        elif self.has_mask:
            size = 1
        else:
            return 0
        return self.shape.tokens * self.shape.seq_len * size

    @property
    def repeats_keys(self) -> bool:
        """Whether keys and values are copied once a query head, which only some kernels can do without."""
        return self._is_grouped and (self.kernel == "eager" or self.has_mask)

    def _eager_forward(self, ledger: Ledger) -> None:
        ledger.pulse(self._scores(self._size), self._scores(self._size))  # the product, and that scaled
        ledger.hold("scores", self._scores(self._size))
        ledger.pulse(self._scores(self._size))  # the mask added
        ledger.hold("probabilities", self._scores(FLOAT32))
        ledger.release("scores")
        if self._size != FLOAT32:
            ledger.hold("probabilities.narrow", self._scores(self._size))
        ledger.hold("attended", self._queries)
        ledger.pulse(self._queries)

    def _eager_backward(self, ledger: Ledger) -> None:
        ledger.pulse(self._scores(self._size), self._scores(FLOAT32), self._scores(FLOAT32))
        ledger.release_if_held("probabilities", "probabilities.narrow")

    @property
    def _is_grouped(self) -> bool:
        return self.architecture.num_kv_heads < self.architecture.num_heads

    @property
    def _size(self) -> int:
        """Bytes an element of what attention computes with."""
        return 2 if self.scheme.autocast else self.scheme.linear

    def _wide(self, size: Quantity) -> Quantity:
        return size // self._size * max(self.scheme.linear, self.scheme.stream)

    @property
    def _queries(self) -> Quantity:
        return self.shape.tokens * (self.architecture.q_width * self._size)

    @property
    def _keys(self) -> Quantity:
        return self.shape.tokens * (self.architecture.kv_width * self._size)

    @property
    def _per_head(self) -> Quantity:
        return self.shape.tokens * (self.architecture.num_heads * FLOAT32)

    def _scores(self, size: int) -> Quantity:
        return self.shape.tokens * self.shape.seq_len * (self.architecture.num_heads * size)
