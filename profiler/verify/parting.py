"""Did a real card and its virtual twin do the same in one job, and where do they part?"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from profiler.jobs.job import JobSpec
from profiler.records.history import EventKind
from profiler.records.schema import OfPhase, Outcome, OutcomeStatus, Peak
from profiler.text import in_one_line
from profiler.values import Value
from profiler.verify.events import FirstDifference, UnlikePhase, compare_histories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.records.history import History
    from profiler.records.schema import PhaseReading, Record

_FIGURES = (
    *("allocated_start_bytes", "allocated_end_bytes", "allocated_peak_bytes"),
    *("reserved_end_bytes", "reserved_peak_bytes", "num_alloc_retries", "num_ooms"),
)
_VERSIONS = ("torch", "cuda", "transformers", "peft", "bitsandbytes", "accelerate", "alloc_conf")


class Likeness(StrEnum):
    """How a job went on a real card and on its twin.

    `IDENTICAL`: every figure of every phase and every event is the same. `PARTLY`: every figure, and every
    event that was kept; the history was full before the job's end, or a side has none. `SAME_FIGURES`: every
    figure, but not every event. `DIFFERS`: some figure is another one. `NOT_COMPARED`: it failed on one side,
    or the two cannot be compared.
    """

    IDENTICAL = "identical events"
    PARTLY = "same peaks, events compared in part"
    SAME_FIGURES = "same peaks, different events"
    DIFFERS = "differs"
    NOT_COMPARED = "not compared"


class FigureDifference(OfPhase):
    """A figure of a phase that is not the same on both sides; None where a side has no such phase."""

    figure: str
    real: int | None
    virtual: int | None


class JobComparison(Value):
    """One job on a real card and on its virtual twin.

    Attributes:
        spec: the job, as it ran on the real card.
        reason: why the verdict is no better; empty where there is nothing to say.
        figures: every figure that differs.
        num_events_real: events of the real card's allocator that were kept; None where there is no history.
        num_events_virtual: the same of the twin.
        unlike_phases: phases whose events are not the same.
        first_difference: the first event that differs.
        notes: what to bear in mind.
    """

    spec: JobSpec
    verdict: Likeness
    reason: str = ""
    real_outcome: Outcome | None = None
    virtual_outcome: Outcome | None = None
    real_peak: Peak | None = None
    virtual_peak: Peak | None = None
    figures: tuple[FigureDifference, ...] = ()
    num_events_real: int | None = None
    num_events_virtual: int | None = None
    unlike_phases: tuple[UnlikePhase, ...] = ()
    first_difference: FirstDifference | None = None
    notes: tuple[str, ...] = ()


def compare_runs(
    real: Record, virtual: Record, real_history: History | None, virtual_history: History | None
) -> JobComparison:
    """Compare a job's run on a real card with that on its virtual twin.

    Args:
        real: the record of the real card.
        virtual: the record of the twin.
        real_history: what the real card's allocator did; None where nothing was kept.
        virtual_history: what the twin's did.
    """
    seen = JobComparison(
        spec=real.spec,
        verdict=Likeness.NOT_COMPARED,
        real_outcome=real.outcome,
        virtual_outcome=virtual.outcome,
        real_peak=real.peak,
        virtual_peak=virtual.peak,
        num_events_real=real_history.num_events if real_history else None,
        num_events_virtual=virtual_history.num_events if virtual_history else None,
        notes=tuple(_notes(real, real_history, virtual_history)),
    )
    if reason := _reason_against(real, virtual):
        return seen.model_copy(update={"reason": reason})
    figures = tuple(_figure_differences(real.phases, virtual.phases))
    first, unlike = compare_histories(real_history, virtual_history)
    is_whole = all(history and not history.is_truncated for history in (real_history, virtual_history))
    verdict, reason = _likeness(real, virtual, figures, first, is_whole=is_whole)
    parting = {"figures": figures, "unlike_phases": unlike, "first_difference": first}
    return seen.model_copy(update={"verdict": verdict, "reason": reason, **parting})


def refused(spec: JobSpec, reason: str) -> JobComparison:
    """A job that could not be run at all."""
    return JobComparison(spec=spec, verdict=Likeness.NOT_COMPARED, reason=reason)


def _reason_against(real: Record, virtual: Record) -> str:
    """Why two runs say nothing about each other; empty where they do."""
    for side, record in (("real card", real), ("virtual twin", virtual)):
        if record.outcome.status not in (OutcomeStatus.OK, OutcomeStatus.OOM):
            told = in_one_line(record.outcome.message)
            return f"the job ended with {record.outcome.status} on the {side}: {told}"
    if real.environment is None or virtual.environment is None:
        return "a side tells nothing of its libraries"
    unlike = [
        f"{name} is {_or_none(getattr(real.environment, name))} on the real card, "
        f"{_or_none(getattr(virtual.environment, name))} on its twin"
        for name in _VERSIONS
        if getattr(real.environment, name) != getattr(virtual.environment, name)
    ]
    return "; ".join(unlike)


def _or_none(text: str | None) -> str:
    return text or "none"


def _notes(real: Record, *histories: History | None) -> Iterator[str]:
    if real.environment and "expandable_segments:True" in real.environment.alloc_conf:
        yield "expandable segments: the allocator maps memory in place of allocating segments"
        events = [event for phase in histories[0].phases for event in phase.events] if histories[0] else []
        if histories[0] and not any(event.kind is EventKind.SEGMENT_MAP for event in events):
            yield "the real card's driver gave no expandable segments, so torch did without"
    for side, history in zip(("real card", "virtual twin"), histories, strict=True):
        if history is None:
            yield f"there is no history of the {side}: events were not compared"
        elif history.is_truncated:
            full = next(phase for phase in history.phases if phase.is_truncated)
            yield f"the history of the {side} was full in {full.place}: later events are missing"


def _likeness(
    real: Record,
    virtual: Record,
    figures: Sequence[FigureDifference],
    first: FirstDifference | None,
    *,
    is_whole: bool,
) -> tuple[Likeness, str]:
    ends = [_ending(record.outcome) for record in (real, virtual)]
    if ends[0] != ends[1]:
        return Likeness.DIFFERS, f"{ends[0]} on the real card, {ends[1]} on its twin"
    if figures:
        return Likeness.DIFFERS, _sum_up(figures)
    if first is not None:
        return Likeness.SAME_FIGURES, ""
    return (Likeness.IDENTICAL, "") if is_whole else (Likeness.PARTLY, "")


def _ending(outcome: Outcome) -> str:
    return str(outcome.status) if outcome.place is None else f"{outcome.status} in {outcome.place}"


def _sum_up(figures: Sequence[FigureDifference]) -> str:
    """Which figures differ, of how many phases: allocated is what is promised, reserved follows from it."""
    kinds = dict.fromkeys(figure.figure.partition("_")[0] for figure in figures)
    names = {"allocated": "allocated", "reserved": "reserved", "num": "retries"}
    phases = {figure.place for figure in figures}
    told = " and ".join(names[kind] for kind in kinds)
    return f"{told} of {len(phases)} {'phase' if len(phases) == 1 else 'phases'}"


def _figure_differences(
    real: Sequence[PhaseReading], virtual: Sequence[PhaseReading]
) -> Iterator[FigureDifference]:
    sides = [{phase.place: phase for phase in phases} for phases in (real, virtual)]
    for place in dict.fromkeys([*sides[0], *sides[1]]):
        pair = [side.get(place) for side in sides]
        for figure in _FIGURES:
            a, b = (None if reading is None else int(getattr(reading, figure)) for reading in pair)
            if a != b:
                yield FigureDifference(**place._asdict(), figure=figure, real=a, virtual=b)
