"""A training job taken apart: what stays, what a block and the loss hold, what is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.breakdown import Instant, select
from profiler.formula.own.attention import AttentionCost
from profiler.formula.own.blocks.families import block_cost
from profiler.formula.own.loss import INT64, LossCost, loss_cost
from profiler.formula.own.optimizer import state_bytes
from profiler.formula.own.resident import (
    adapters_bytes,
    buffers_bytes,
    embedding_bytes,
    quantization_state_bytes,
    trained_tensors,
    weights_bytes,
)
from profiler.formula.own.scheme import Scheme, scheme_of
from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.choices import AttentionMask, Loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity, Shape
    from profiler.formula.own.block import BlockCost
    from profiler.formula.own.resident import Tensor
    from profiler.jobs.job import JobSpec

WORKSPACE_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024
"""cuBLAS workspace of one thread: 4096 KiB x 2 + 16 KiB x 8 (PyTorch's CublasHandlePool.cpp)."""
HOPPER_WORKSPACE_BYTES = 32 << 20
"""The same from compute capability 9.0 on (same file)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A job taken apart.

    Attributes:
        resident: terms that hold from the first step on, whatever the instant; where gradients accumulate,
            those of the batches before too.
        shared: the mask and the rotary tables, which blocks share until the last is differentiated.
        first_input: the first block's input, which has the type of the embeddings.
        trained: every trained tensor, and how many there are of its kind.
        block: one block.
        head: the output matrix and the loss.
    """

    job: JobSpec
    architecture: Architecture
    scheme: Scheme
    resident: Mapping[str, Quantity]
    shared: Quantity
    first_input: Quantity
    trained: tuple[tuple[Tensor, int], ...]
    block: BlockCost
    head: LossCost

    @property
    def is_checkpointed(self) -> bool:
        """Whether blocks are recomputed."""
        return self.job.gradient_checkpointing.enabled

    @property
    def new_gradients_bytes(self) -> int:
        """Of all trained tensors, at the end of a backward pass that had none when it began."""
        return 0 if self.scheme.accumulates else gradients_bytes(self.trained)

    @property
    def table_bytes(self) -> int:
        """One gradient of the embeddings, or of the output matrix."""
        return embedding_bytes(self.architecture, self.scheme) if self.scheme.trains_weights else 0

    @property
    def head_gradient_bytes(self) -> int:
        """The gradient of the output matrix, until the embeddings' is made where the two are tied."""
        is_added = self.scheme.accumulates and not self.architecture.tie_word_embeddings
        return 0 if is_added else self.table_bytes

    @property
    def saved(self) -> dict[str, Quantity]:
        """What all blocks keep for the backward pass."""
        layers, block = self.architecture.num_layers, self.block
        if not self.is_checkpointed:
            first = block.embedded if self.scheme.trains_weights else -block.unneeded
            return {"saved_activations": layers * block.saved + first}
        return {
            "block_inputs": (layers - 1) * block.output + self.first_input,
            "saved_activations": layers * self.escaped + block.embedded,
        }

    @property
    def escaped(self) -> Quantity:
        """What one block keeps until the backward pass is over."""
        return 0 if self.job.gradient_checkpointing.reentrant else self.block.escaped

    def instant(self, name: str, *terms: Mapping[str, Quantity], has_state: bool = False) -> Instant:
        """An instant of a training step; the first step makes the optimizer's state only in its end."""
        state = {"optimizer_state": state_bytes(self.job.optimizer, self.trained)}
        is_there = has_state or self.job.steps > 1
        merged: dict[str, Quantity] = {**self.resident, **(state if is_there else {})}
        for group in terms:
            for term, size in group.items():
                merged[term] = merged.get(term, 0) + size
        return Instant(name=name, terms=merged)


def take_apart(job: JobSpec, architecture: Architecture, shape: Shape) -> Parts:
    """What every instant of a training job is made of."""
    scheme = scheme_of(job)
    trained = tuple(trained_tensors(architecture, scheme))
    block, mask = _block(job, architecture, scheme, shape)
    if not job.gradient_checkpointing.enabled:
        mask = 0  # added to scores, or made numbers of block by block: the backward pass needs it no more
    num_batch_tensors = 2 if job.attention_mask is AttentionMask.NONE else 3
    num_batches = job.accumulation if job.loop is Loop.TRAINER else 1
    rotary = 2 * shape.seq_len * (architecture.head_dim * scheme.tables)
    return Parts(
        job=job,
        architecture=architecture,
        scheme=scheme,
        resident={
            "weights": weights_bytes(architecture, scheme),
            "quantization_state": quantization_state_bytes(architecture, scheme),
            "adapters": adapters_bytes(architecture, scheme),
            "buffers": buffers_bytes(architecture),
            "workspaces": 2 * workspace_bytes(job.gpu),
            "batch": shape.tokens * (INT64 * num_batch_tensors * num_batches),
            **({"gradients": gradients_bytes(trained)} if scheme.accumulates else {}),
        },
        shared=mask + rotary,
        first_input=shape.tokens * (architecture.hidden_size * scheme.tables),
        trained=trained,
        block=block,
        head=loss_cost(job, architecture, scheme, shape),
    )


def _block(
    job: JobSpec, architecture: Architecture, scheme: Scheme, shape: Shape
) -> tuple[BlockCost, Quantity]:
    """One block, and the mask that blocks share: another kernel is taken where a sliding window matters."""
    full, windowed = (
        AttentionCost(job=job, architecture=architecture, scheme=scheme, shape=shape, is_windowed=is_windowed)
        for is_windowed in (False, True)
    )
    if architecture.sliding_window is None:
        return block_cost(full), full.mask_bytes
    reaches = shape.seq_len >= architecture.sliding_window
    block = block_cost(windowed).where(reaches, block_cost(full))
    return block, select(reaches, windowed.mask_bytes, full.mask_bytes)


def gradients_bytes(trained: Iterable[tuple[Tensor, int]]) -> int:
    """Of trained tensors, given how many there are of each kind."""
    return sum(tensor.bytes * count for tensor, count in trained)


def workspace_bytes(gpu: str) -> int:
    """Of the card a job names; one that is not in the catalogue is taken for one before Hopper."""
    card = load_catalogue().get(gpu)
    is_new = card is not None and card.compute_capability >= (9, 0)
    return HOPPER_WORKSPACE_BYTES if is_new else WORKSPACE_BYTES
