"""The moments of a training job at which memory can peak, in the order they happen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.formula.breakdown import Instant
from profiler.formula.own.optimizer import step_bytes
from profiler.formula.own.resident import loading_bytes, weights_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.formula.breakdown import Quantity
    from profiler.formula.own.parts import Parts


def instants_of(parts: Parts) -> tuple[Instant, ...]:
    """Every moment that can be the peak of a job.

    Under checkpointing blocks save nothing at first, and hold more when they are computed anew: there is no
    telling instant in the forward pass of a block then.
    """
    followed = (make for make in INSTANTS if not (parts.is_checkpointed and make is _forward))
    return tuple(make(parts) for make in followed)


def _load(parts: Parts) -> Instant:
    """Loading, quantizing and casting for k-bit training, each of which holds one tensor twice."""
    kept = {name: parts.resident[name] for name in ("quantization_state", "buffers")}
    prepared = replace(parts.scheme, tables=parts.scheme.others)  # trl casts tables back later
    kept["weights"] = weights_bytes(parts.architecture, prepared)
    return Instant(name="loading", terms={**kept, "loading": loading_bytes(parts.architecture, parts.scheme)})


def _forward(parts: Parts) -> Instant:
    """Where the last block's forward pass holds most, its input and the embeddings' output besides."""
    block, saved = parts.block, parts.saved
    saved["saved_activations"] = saved["saved_activations"] - block.saved + block.output
    return parts.instant(
        "forward pass of the last block",
        saved,
        {"batch": parts.shared, "block": block.forward + block.output},
    )


def _forward_end(parts: Parts) -> Instant:
    head = parts.head
    return parts.instant(
        "end of the forward pass",
        parts.saved,
        {"batch": parts.shared, "saved_activations": head.saved, "logits_and_loss": head.forward},
    )


def _loss_backward(parts: Parts) -> Instant:
    head = parts.head
    return parts.instant(
        "backward of the loss",
        parts.saved,
        {"batch": parts.shared, "saved_activations": head.saved, "logits_and_loss": head.backward},
    )


def _norm_backward(parts: Parts) -> Instant:
    """The last norm, of a model with so few words that it holds more than the loss did."""
    return parts.instant(
        "backward of the last norm",
        {"gradients": parts.head_gradient_bytes},
        parts.saved,
        {"batch": parts.shared, "logits_and_loss": parts.head.norm},
    )


def _last_block(parts: Parts) -> Instant:
    """The first block to be differentiated: everything saved is there, hardly a gradient."""
    own = parts.block.gradients
    saved = parts.saved
    if not parts.is_checkpointed:
        saved["saved_activations"] = saved["saved_activations"] - parts.block.saved
    return parts.instant(
        "backward of the last block",
        {"gradients": parts.head_gradient_bytes + own},
        saved,
        {"batch": parts.shared, "block": _working(parts) - own, "logits_and_loss": parts.head.kept},
    )


def _first_block(parts: Parts) -> Instant:
    """The last block to be differentiated: every gradient is there, hardly anything saved.

    Where its input is narrower than the stream, its first norm keeps a wide copy.
    """
    own = parts.block.gradients
    widened = parts.block.output if parts.scheme.tables < parts.scheme.stream else 0
    held = {"saved_activations": (parts.architecture.num_layers - 1) * parts.escaped}
    if parts.is_checkpointed:
        held = {
            "block_inputs": parts.first_input,
            "saved_activations": held["saved_activations"] + parts.escaped,
        }
    return parts.instant(
        "backward of the first block",
        {"gradients": parts.head_gradient_bytes + parts.architecture.num_layers * own},
        held,
        {"batch": parts.shared, "block": _working(parts) - own + widened, "logits_and_loss": parts.head.kept},
    )


def _working(parts: Parts) -> Quantity:
    """What differentiating one block holds, its gradients included."""
    return parts.block.recomputed if parts.is_checkpointed else parts.block.backward


def _embedding(parts: Parts) -> Instant:
    """The end of the backward pass; a tied matrix has two gradients, which are added into a third.

    What comes of it is the embeddings' gradient, or is added to the one that is there.
    """
    extra = 2 * parts.table_bytes if parts.architecture.tie_word_embeddings else 0
    if parts.scheme.accumulates:
        extra += parts.table_bytes
    return parts.instant(
        "gradient of the embeddings",
        {"gradients": parts.new_gradients_bytes},
        {"embedding_gradient": parts.block.output + extra, "logits_and_loss": parts.head.kept},
    )


def _step(parts: Parts) -> Instant:
    return parts.instant(
        "optimizer step",
        {"gradients": parts.new_gradients_bytes},
        {"step_temporaries": step_bytes(parts.job.optimizer, parts.trained, is_foreach=parts.job.foreach)},
        has_state=True,
    )


INSTANTS: tuple[Callable[[Parts], Instant], ...] = (
    _load,
    _forward,
    _forward_end,
    _loss_backward,
    _norm_backward,
    _last_block,
    _first_block,
    _embedding,
    _step,
)
