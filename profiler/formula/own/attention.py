"""What attention holds between the projections, by implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from profiler.formula.breakdown import round_up
from profiler.formula.own.linear import FLOAT32
from profiler.jobs.choices import Attention, AttentionMask

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity, Shape
    from profiler.formula.own.ledger import Ledger
    from profiler.formula.own.scheme import Scheme
    from profiler.jobs.job import JobSpec

BIAS_ALIGNMENT = 8
"""Elements to a multiple of which the efficient kernel has rows of its bias padded (torch, attention.cpp)."""


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
        if self.element_bytes == FLOAT32 or self.has_mask:
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
        if self.element_bytes != max(self.scheme.linear, self.scheme.stream):  # autocast
            for name, size in (("q.rotated", self._queries), ("k.rotated", self._keys)):
                ledger.rename(name, "wide")
                ledger.replace("wide", name, size)
        if self.element_bytes != self.scheme.linear:
            ledger.rename("v_proj", "wide")
            ledger.replace("wide", "v_proj", self._keys)
        if self.repeats_keys:
            ledger.hold("keys.repeated", self._queries)
            ledger.hold("values.repeated", self._queries)
            ledger.release("k.rotated", "v_proj")
        if self.kernel == "eager":
            self._eager_forward(ledger)
        else:
            if self.has_mask:
                ledger.hold("bias", self._bias)
            ledger.hold("attended", self._queries)
            ledger.hold("normalizers", self._per_head)

    def backward(self, ledger: Ledger, gradient: str) -> None:
        """Frees what was saved and `gradient`; holds the gradients of queries, keys and values."""
        if self.kernel == "eager":
            self._eager_backward(ledger, gradient)
            return
        ledger.hold("q.rotated.gradient", self._wide(self._queries))
        ledger.hold("k.rotated.gradient", self._wide(self._keys))
        ledger.hold("v_proj.gradient", self._keys)
        repeated = (self._queries, self._queries) if self._is_grouped else ()
        accumulated = self.shape.tokens * (self.architecture.q_width * FLOAT32)
        ledger.pulse(self._per_head, accumulated, *repeated)
        ledger.release("normalizers", gradient, "q.rotated", "attended")
        ledger.release_if_held("k.rotated", "v_proj", "keys.repeated", "values.repeated", "bias")

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
        num_masks = 2 if self.architecture.model_type == "gemma2" else 1  # full and windowed blocks
        return self.shape.tokens * self.shape.seq_len * (num_masks * size)

    @property
    def repeats_keys(self) -> bool:
        """Whether keys and values are copied once a query head, which only some kernels can do without."""
        return self._is_grouped and (self.kernel == "eager" or self.has_mask)

    def _eager_forward(self, ledger: Ledger) -> None:
        scores = self._scores(self.element_bytes)
        ledger.hold("scores", scores)
        self._step(ledger, "scores")  # scaled
        if self._has_soft_cap:
            self._step(ledger, "scores")  # divided by the cap
            ledger.replace("scores", "scores.capped", scores)
            ledger.hold("scores", scores)
        self._step(ledger, "scores")  # the mask added
        if self.element_bytes == FLOAT32:
            ledger.replace("scores", "probabilities", scores)
        else:
            ledger.hold("wide", self._scores(FLOAT32))
            ledger.replace("wide", "probabilities", self._scores(FLOAT32))
            ledger.replace("scores", "probabilities.narrow", scores)
        ledger.hold("attended", self._queries)
        ledger.pulse(self._queries)

    def _eager_backward(self, ledger: Ledger, gradient: str) -> None:
        self._step(ledger, gradient)  # laid out by head
        ledger.hold("v_proj.gradient", self._queries)
        ledger.hold("scores.gradient", self._scores(self.element_bytes))
        ledger.release(gradient)
        ledger.release_if_held("values.repeated", "v_proj", "probabilities.narrow")
        self._softmax_backward(ledger)
        if self._has_soft_cap:
            self._step(ledger, "scores.gradient")
            self._step(ledger, "scores.gradient")
            ledger.release("scores.capped")
            self._step(ledger, "scores.gradient")
        self._step(ledger, "scores.gradient")
        ledger.hold("k.rotated.gradient", self._queries)
        ledger.hold("q.rotated.gradient", self._queries)
        ledger.release("scores.gradient", "q.rotated")
        ledger.release_if_held("keys.repeated", "k.rotated", "attended")
        if self._is_grouped:
            self._step(ledger, "v_proj.gradient", self._keys)
            self._step(ledger, "k.rotated.gradient", self._keys)
        if self.element_bytes < max(self.scheme.linear, self.scheme.stream):  # autocast
            self._step(ledger, "q.rotated.gradient", self._wide(self._queries))
            self._step(ledger, "k.rotated.gradient", self._wide(self._keys))

    def _softmax_backward(self, ledger: Ledger) -> None:
        """In float32; then back to the type of the scores."""
        wide = self._scores(FLOAT32)
        if self.element_bytes < FLOAT32:
            self._step(ledger, "scores.gradient", wide)
        ledger.pulse(wide, wide)
        self._step(ledger, "scores.gradient", wide)
        ledger.release("probabilities")
        if self.element_bytes < FLOAT32:
            self._step(ledger, "scores.gradient", self._scores(self.element_bytes))

    def _step(self, ledger: Ledger, name: str, size: Quantity | None = None) -> None:
        """A tensor is replaced by what is computed from it, of the same size unless another is given."""
        ledger.rename(name, "before")
        ledger.replace("before", name, ledger.size("before") if size is None else size)

    @property
    def _has_soft_cap(self) -> bool:
        """Whether the tangent of the scores is taken (Gemma 2)."""
        return self.architecture.model_type == "gemma2"

    @property
    def _is_grouped(self) -> bool:
        return self.architecture.num_kv_heads < self.architecture.num_heads

    @property
    def element_bytes(self) -> int:
        """Bytes an element of what attention computes with."""
        return 2 if self.scheme.autocast else self.scheme.linear

    def _wide(self, size: Quantity) -> Quantity:
        return size // self.element_bytes * max(self.scheme.linear, self.scheme.stream)

    @property
    def _queries(self) -> Quantity:
        return self.shape.tokens * (self.architecture.q_width * self.element_bytes)

    @property
    def _keys(self) -> Quantity:
        return self.shape.tokens * (self.architecture.kv_width * self.element_bytes)

    @property
    def _bias(self) -> Quantity:
        """The mask as numbers to add, which torch makes of it in every block."""
        return self.shape.tokens * round_up(self.shape.seq_len, BIAS_ALIGNMENT) * self.element_bytes

    @property
    def _per_head(self) -> Quantity:
        return self.shape.tokens * (self.architecture.num_heads * FLOAT32)

    def _scores(self, size: int) -> Quantity:
        return self.shape.tokens * self.shape.seq_len * (self.architecture.num_heads * size)
