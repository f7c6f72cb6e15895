"""Our own formula, from first principles: every tensor that the libraries are known to make in training.

Fine-tuning of one decoder-only model on one card is followed to the moments at which memory can peak; the
peak is the largest of them. Nothing in it is fitted. Its sources are the code of transformers 5, peft,
bitsandbytes and torch, and the caching allocator's history of runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.architecture import LLAMA_LIKE
from profiler.formula.attention import AttentionCost
from profiler.formula.block import BlockCost, block_cost
from profiler.formula.breakdown import Breakdown, Formula, Instant, select
from profiler.formula.loss import INT64, LossCost, loss_cost
from profiler.formula.optimizer import state_bytes, step_bytes
from profiler.formula.resident import (
    adapters_bytes,
    buffers_bytes,
    embedding_bytes,
    loading_bytes,
    quantization_state_bytes,
    trained_tensors,
    weights_bytes,
)
from profiler.formula.scheme import Scheme, scheme_of
from profiler.hardware.catalogue import load_catalogue
from profiler.spec.job import AttentionMask, JobSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity, Shape
    from profiler.formula.resident import Tensor

WORKSPACE_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024
"""cuBLAS workspace of one thread: 4096 KiB x 2 + 16 KiB x 8 (PyTorch's CublasHandlePool.cpp)."""
HOPPER_WORKSPACE_BYTES = 32 << 20
"""The same from compute capability 9.0 on (same file)."""

TERMS = {
    "weights": "every parameter as it is stored: elements x bytes, 4-bit data two elements a byte",
    "quantization_state": "scales, codes and offsets of quantized matrices",
    "adapters": "LoRA's A and B in float32: 4 rank (in + out) for each adapted matrix",
    "optimizer_state": "moments of trained tensors, in the type the optimizer keeps them in",
    "buffers": "rotary frequencies",
    "workspaces": "cuBLAS, one a thread: the main one and autograd's",
    "batch": "ids, labels and mask, 8 bytes each a token; the rotary tables; the mask that blocks share",
    "gradients": "of trained tensors, in their own type, as far as they are there",
    "saved_activations": "what every block and the last norm keep for the backward pass",
    "block_inputs": "with checkpointing: the input of every block, hidden x bytes a token",
    "block": "the one block that is differentiated: recomputed activations and temporaries",
    "logits_and_loss": "logits, their float32 copy, log-probabilities and their gradients",
    "embedding_gradient": "the embeddings' gradient while it is made and added to the output matrix's",
    "step_temporaries": "what the optimizer's step holds besides its state",
    "loading": "the 16-bit tensor that is quantized or cast at that moment",
}


def evaluate(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    """The terms of a job at every moment that can be its peak."""
    parts = _take_apart(job, architecture, shape)
    instants = (_load, _forward_end, _loss_backward, _last_block, _first_block, _embedding, _step)
    return Breakdown(instants=tuple(instant(parts) for instant in instants))


def refusal(job: JobSpec, architecture: Architecture) -> str | None:
    """Why the formula says nothing of a job; None where it does."""
    if architecture.model_type not in LLAMA_LIKE:
        return f"the blocks of {architecture.model_type} models are not followed"
    if job.method.kind not in _FOLLOWED:
        return f"{job.method.kind} is no fine-tuning it follows"
    if getattr(job.method, "use_dora", False):
        return "DoRA's magnitudes are not followed"
    return None


_FOLLOWED = ("full", "lora", "qlora", "int8-lora")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A job taken apart.

    Attributes:
        resident: terms that hold from the first step on, whatever the instant.
        state_bytes: the optimizer's state.
        gradients_bytes: of all trained tensors.
        block: one block.
        head: the output matrix and the loss.
    """

    job: JobSpec
    architecture: Architecture
    scheme: Scheme
    resident: Mapping[str, Quantity]
    trained: tuple[tuple[Tensor, int], ...]
    block: BlockCost
    head: LossCost

    @property
    def is_checkpointed(self) -> bool:
        return self.job.gradient_checkpointing.enabled

    @property
    def gradients_bytes(self) -> int:
        return sum(tensor.bytes * count for tensor, count in self.trained)

    @property
    def table_gradient_bytes(self) -> int:
        """The gradient of the output matrix, or of the embeddings that it is tied to."""
        return embedding_bytes(self.architecture, self.scheme) if self.scheme.trains_weights else 0

    @property
    def saved(self) -> dict[str, Quantity]:
        """What all blocks keep for the backward pass."""
        layers, block = self.architecture.num_layers, self.block
        if not self.is_checkpointed:
            unneeded = 0 if self.scheme.trains_weights else block.unneeded
            return {"saved_activations": layers * block.saved - unneeded}
        escaped = 0 if self.job.gradient_checkpointing.reentrant else block.escaped
        return {"block_inputs": layers * block.output, "saved_activations": layers * escaped}

    def instant(self, name: str, *terms: Mapping[str, Quantity], has_state: bool = False) -> Instant:
        """An instant of a training step; the first step makes the optimizer's state only in its end."""
        state = {"optimizer_state": state_bytes(self.job.optimizer, self.trained)}
        is_there = has_state or self.job.steps > 1
        merged: dict[str, Quantity] = {**self.resident, **(state if is_there else {})}
        for group in terms:
            for term, size in group.items():
                merged[term] = merged.get(term, 0) + size
        return Instant(name=name, terms=merged)


def _take_apart(job: JobSpec, architecture: Architecture, shape: Shape) -> _Parts:
    scheme = scheme_of(job)
    block, mask = _block(job, architecture, scheme, shape)
    trained = tuple(trained_tensors(architecture, scheme))
    num_batch_tensors = 2 if job.attention_mask is AttentionMask.NONE else 3
    rotary = 2 * shape.seq_len * (architecture.head_dim * scheme.stream)
    return _Parts(
        job=job,
        architecture=architecture,
        scheme=scheme,
        resident={
            "weights": weights_bytes(architecture, scheme),
            "quantization_state": quantization_state_bytes(architecture, scheme),
            "adapters": adapters_bytes(architecture, scheme),
            "buffers": buffers_bytes(architecture),
            "workspaces": 2 * _workspace_bytes(job.gpu),
            "batch": shape.tokens * (INT64 * num_batch_tensors) + mask + rotary,
        },
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


def _workspace_bytes(gpu: str) -> int:
    """Of the card a job names; one that is not in the catalogue is taken for one before Hopper."""
    card = load_catalogue().get(gpu)
    is_new = card is not None and card.compute_capability >= (9, 0)
    return HOPPER_WORKSPACE_BYTES if is_new else WORKSPACE_BYTES


# The instants, in the order they happen


def _load(parts: _Parts) -> Instant:
    """Loading, quantizing and casting for k-bit training, each of which holds one tensor twice."""
    kept = {name: parts.resident[name] for name in ("weights", "quantization_state", "buffers")}
    return Instant(name="loading", terms={**kept, "loading": loading_bytes(parts.architecture, parts.scheme)})


def _forward_end(parts: _Parts) -> Instant:
    head = parts.head
    return parts.instant(
        "end of the forward pass",
        parts.saved,
        {"saved_activations": head.saved, "logits_and_loss": head.forward},
    )


def _loss_backward(parts: _Parts) -> Instant:
    head = parts.head
    return parts.instant(
        "backward of the loss",
        parts.saved,
        {"saved_activations": head.saved, "logits_and_loss": head.backward},
    )


def _last_block(parts: _Parts) -> Instant:
    """The first block to be differentiated: everything saved is there, hardly a gradient."""
    own = parts.block.gradients
    saved = parts.saved
    if not parts.is_checkpointed:
        saved["saved_activations"] = saved["saved_activations"] - parts.block.saved
    return parts.instant(
        "backward of the last block",
        {"gradients": parts.table_gradient_bytes + own},
        saved,
        {"block": _working(parts) - own, "logits_and_loss": parts.head.kept},
    )


def _first_block(parts: _Parts) -> Instant:
    """The last block to be differentiated: every gradient is there, hardly anything saved."""
    own = parts.block.gradients
    inputs = {"block_inputs": parts.block.output} if parts.is_checkpointed else {}
    return parts.instant(
        "backward of the first block",
        {"gradients": parts.table_gradient_bytes + parts.architecture.num_layers * own},
        inputs,
        {"block": _working(parts) - own, "logits_and_loss": parts.head.kept},
    )


def _working(parts: _Parts) -> Quantity:
    """What differentiating one block holds, its gradients included."""
    return parts.block.recomputed if parts.is_checkpointed else parts.block.backward


def _embedding(parts: _Parts) -> Instant:
    """The end of the backward pass; a tied matrix has two gradients, which are added into a third."""
    is_tied = parts.scheme.trains_weights and parts.architecture.tie_word_embeddings
    extra = 2 * parts.table_gradient_bytes if is_tied else 0
    return parts.instant(
        "gradient of the embeddings",
        {"gradients": parts.gradients_bytes},
        {"embedding_gradient": parts.block.output + extra, "logits_and_loss": parts.head.kept},
    )


def _step(parts: _Parts) -> Instant:
    return parts.instant(
        "optimizer step",
        {"gradients": parts.gradients_bytes},
        {"step_temporaries": step_bytes(parts.job.optimizer, parts.trained)},
        has_state=True,
    )


PEAKVRAM = Formula(
    id="peakvram",
    title="peakvram: every known tensor, from first principles",
    source="this project; docs/formulas.md",
    predicts="peak allocated bytes",
    terms=TERMS,
    evaluate=evaluate,
    refusal=refusal,
)
