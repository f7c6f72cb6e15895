"""Whose every block of a run is: a component, and in it a part of the model or of the training step.

What the tensors of the job own at a phase's end is certain. The rest is told from when a block was made
and let go: what a forward pass leaves behind is kept for the backward pass; what does not outlive it is
temporary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from profiler.records.schema import GENERATION_PHASES, PhaseName
from profiler.records.trace import Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.explain.traced_run import TracedBlock, TracedRun
    from profiler.records.trace import Mark, Owned

_CACHE_FILE = "transformers/cache_utils.py"
# What peft adds to a module's path, around the model and around its layers.
_WRAPPER = "base_model.model."
_INNER = frozenset({"default", "base_layer"})


class Part(StrEnum):
    """What a block is; the order is that of a picture, from what stays to what comes and goes."""

    WEIGHTS = "weights"
    QUANTIZATION_STATE = "quantization state"
    ADAPTERS = "adapters"
    BUFFERS = "buffers"
    OPTIMIZER = "optimizer"
    GRADIENTS = "gradients"
    KV_CACHE = "KV cache"
    BATCH = "batch"
    WORKSPACE = "workspace"
    OTHER = "other"
    ACTIVATIONS = "saved activations"
    LOGITS = "logits and loss"
    TEMPORARIES = "temporaries"


_OWNED = {
    "weights": Part.WEIGHTS,
    "quantization_state": Part.QUANTIZATION_STATE,
    "adapter": Part.ADAPTERS,
    "buffers": Part.BUFFERS,
    "optimizer": Part.OPTIMIZER,
    "gradients": Part.GRADIENTS,
    "kv_cache": Part.KV_CACHE,
    "batch": Part.BATCH,
    "workspace": Part.WORKSPACE,
}
_OUTSIDE_OF_STEPS = {
    PhaseName.CONTEXT: "before loading",
    PhaseName.LOAD: "loading",
    PhaseName.PREPARE: "k-bit preparation",
    PhaseName.ADAPT: "adding adapters",
    PhaseName.OPTIMIZER: "making the optimizer",
    PhaseName.CLIP: "gradient clipping",
    PhaseName.STEP: "optimizer step",
    PhaseName.ZERO_GRAD: "zeroing gradients",
    PhaseName.SAVE: "saving",
}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a block is.

    Attributes:
        part: the component.
        name: of it: a tensor (`layers.*.mlp.up_proj.weight`), a module, or a stage of the step.
    """

    part: Part
    name: str


def find_owners(run: TracedRun) -> Mapping[int, Owner]:
    """The owner of every block, by its number."""
    owned = _owned(run)
    ends = _ends_of_passes(run)
    return {
        number: _owner_of(owned[number]) if number in owned else _told(block, run, ends)
        for number, block in run.blocks.items()
    }


@cache
def place_of(path: str) -> str:
    """A module's or tensor's path for all blocks of the model alike: `layers.*.mlp.up_proj`."""
    return ".".join("*" if part.isdecimal() else part for part in without_wrappers(path).split("."))


def without_wrappers(path: str) -> str:
    """A path without what libraries wrap around the model and its layers: `layers.7.mlp.up_proj`."""
    parts = [part for part in path.removeprefix(_WRAPPER).split(".") if part not in _INNER]
    return ".".join(parts).removeprefix("model.")


def _owned(run: TracedRun) -> dict[int, Owned]:
    """The last owner of each block that had any.

    A thread keeps its workspace: what is freed was another block for which as much was asked.
    """
    owned = {block.number: block for phase in run.trace.phases for block in phase.owned if block.component}
    return {
        number: block
        for number, block in owned.items()
        if block.component != "workspace" or run.blocks[number].died is None
    }


def _owner_of(block: Owned) -> Owner:
    part = _OWNED[block.component]
    return Owner(part, place_of(block.name) or str(part))


def _ends_of_passes(run: TracedRun) -> list[int]:
    """For each event the one at which the pass around it is over: a phase's end, or a recomputation's."""
    ends = [0] * len(run.events)
    start = 0
    for phase, phase_end in zip(run.trace.phases, run.phase_ends, strict=True):
        end = phase_end
        for index in range(phase_end - 1, start - 1, -1):
            if phase.phase is PhaseName.BACKWARD and run.mark_at(index).work is Work.BACKWARD:
                end = index
            ends[index] = end
        start = phase_end
    return ends


def _told(block: TracedBlock, run: TracedRun, ends: list[int]) -> Owner:
    """The owner of a block that no tensor of the job owns."""
    phase, mark = run.trace.phases[block.phase], run.mark_at(block.born)
    is_kept = block.died is None or block.died >= ends[block.born]
    if phase.phase in GENERATION_PHASES:
        return _generating(block, run, mark)
    if phase.phase is PhaseName.EVALUATE:
        return _evaluating(mark)
    if phase.phase is PhaseName.FORWARD:
        return _forward(mark, is_kept=is_kept)
    if phase.phase is PhaseName.BACKWARD:
        return _backward(mark, is_stale=not mark.is_of(phase.place), is_kept=is_kept)
    is_step = phase.phase in (PhaseName.CLIP, PhaseName.STEP)
    part = Part.OTHER if is_kept and not is_step else Part.TEMPORARIES
    return Owner(part, _OUTSIDE_OF_STEPS[phase.phase])


def _forward(mark: Mark, *, is_kept: bool) -> Owner:
    if mark.work is not Work.FORWARD:
        return Owner(Part.LOGITS, "forward pass")
    return Owner(Part.ACTIVATIONS if is_kept else Part.TEMPORARIES, place_of(mark.module))


def _backward(mark: Mark, *, is_stale: bool, is_kept: bool) -> Owner:
    if mark.work is Work.FORWARD:
        part = Part.ACTIVATIONS if is_kept else Part.TEMPORARIES
        return Owner(part, f"{place_of(mark.module)} (recomputed)")
    if mark.work is Work.BACKWARD and not is_stale:
        return Owner(Part.TEMPORARIES, f"backward pass, {_block_of(mark.module)}")
    # No parameter has a gradient yet, and no block was recomputed: it is the loss's turn, and the head's.
    return Owner(Part.LOGITS, "backward pass")


def _generating(block: TracedBlock, run: TracedRun, mark: Mark) -> Owner:
    # A cache that grows is copied: its old blocks are gone by the end of the phase, where it is looked at.
    if any(line.startswith(_CACHE_FILE) for line in run.stack_at(block.born)):
        return Owner(Part.KV_CACHE, str(Part.KV_CACHE))
    if mark.work is not Work.FORWARD:
        return Owner(Part.LOGITS, "forward pass")
    return Owner(Part.TEMPORARIES, place_of(mark.module))


def _evaluating(mark: Mark) -> Owner:
    """Nothing is kept for a backward pass; logits are, until they go to the host."""
    if mark.work is not Work.FORWARD:
        return Owner(Part.LOGITS, "evaluation")
    return Owner(Part.TEMPORARIES, place_of(mark.module))


def _block_of(module: str) -> str:
    """A module's block of the model, `layers.*`: autograd is not followed more closely than that."""
    head, star, _ = place_of(module).partition("*")
    return head + star
