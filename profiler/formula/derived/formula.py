"""What a derived formula says of a job, in the words of all formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Instant
from profiler.formula.derived.shelf import find_derived, why_not_derived
from profiler.formula.own.parts import workspace_bytes

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Shape
    from profiler.formula.derived.evaluate import Replayed
    from profiler.jobs.job import JobSpec

TERMS = {
    "weights": "parameters, as they are stored",
    "quantization_state": "scales, codes and offsets of quantized matrices",
    "adapters": "LoRA's A and B",
    "buffers": "what modules keep besides parameters",
    "optimizer": "the optimizer's state",
    "gradients": "gradients that outlive the backward pass",
    "batch": "ids, labels and mask",
    "workspace": "cuBLAS, one a thread",
    "saved_activations": "what the forward pass keeps for the backward pass",
    "logits_and_loss": "the output layer, the loss, and their gradients",
    "temporaries": "what comes and goes",
    "other": "what belongs to none of these",
}


def breakdown_of(replayed: Replayed) -> Breakdown:
    """The peaks of a replayed run as instants: of each kind of phase the highest."""
    highest: dict[str, Instant] = {}
    for phase in replayed.phases:
        if not phase.terms:
            continue  # before anything is loaded
        name = str(phase.place.phase).replace("_", " ")
        terms = {part.replace(" ", "_"): count for part, count in phase.terms.items()}
        if name not in highest or phase.allocated_bytes > highest[name].total_bytes:
            shown = str(phase.place).replace("_", " ")
            highest[name] = Instant(name=shown, terms=terms)
    return Breakdown(instants=tuple(highest.values()))


def evaluate(job: JobSpec, _architecture: Architecture, shape: Shape) -> Breakdown:
    """The peaks of a job's run, of a single batch."""
    found = find_derived(job, card_id=job.gpu).formula
    assert found is not None, "it is refused otherwise"
    assert isinstance(shape.batch_size, int), "many are replayed one by one"
    assert isinstance(shape.seq_len, int), "as the batch"
    regimes, _ = found.regimes_at(shape.batch_size, shape.seq_len)
    replayed = found.replay(
        regimes[0],
        shape.batch_size,
        shape.seq_len,
        workspace_bytes=workspace_bytes(job.gpu),
        num_steps=job.steps,
    )
    return breakdown_of(replayed)


def refusal(job: JobSpec, _architecture: Architecture) -> str | None:
    """Why there is none for a job."""
    if (reason := why_not_derived(job)) is not None:
        return reason
    if find_derived(job, card_id=job.gpu).formula is None:
        return "none was derived for it yet: `peakvram derive` does"
    return None


DERIVED = Formula(
    id="derived",
    title="derived: the allocator's events of virtual runs, replayed for this batch",
    source="this project; docs/derived.md",
    predicts="peak allocated bytes",
    terms=TERMS,
    evaluate=evaluate,
    refusal=refusal,
    is_of_whole_runs=True,
)
