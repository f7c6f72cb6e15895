"""What changes of a job really do to its peak: the most promising ones are run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.estimate.card import card_of
from profiler.estimate.estimate import DEFAULT_FORMULA, Estimate, estimate_job, single
from profiler.estimate.factors import default_factors
from profiler.execute.schedule import SweepOptions, run_sweep
from profiler.explain.changes import Change, Lever, possible_changes
from profiler.formula.catalogue import find_formula
from profiler.formula.configs import UnknownShapesError
from profiler.jobs.identity import job_key
from profiler.process.scratch import ScratchDirectory
from profiler.records.schema import Bytes, OutcomeStatus
from profiler.records.store import RecordStore
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiler.execute.options import SweepEvents
    from profiler.explain.settings import BetterSettings
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

NUM_RUN = 4
NUM_SHOWN = 3


class Effect(Value):
    """What one change does, found by running the changed job.

    Attributes:
        flags: what to add to the command.
        cost: what is given for it.
        key: of the changed job.
        status: how it ended.
        allocated_bytes: its peak; a lower bound where it did not end well.
        reserved_bytes: likewise.
        saved_bytes: how much lower the peak of allocated memory is; where that is no lower, of reserved.
    """

    flags: str
    cost: str
    key: str
    status: OutcomeStatus
    allocated_bytes: Bytes
    reserved_bytes: Bytes
    saved_bytes: int


def find_effects(
    record: Record,
    events: SweepEvents,
    *,
    settings: BetterSettings | None,
    timeout_s: float | None,
    allow_busy: bool,
) -> tuple[Effect, ...]:
    """Runs the changes that promise most, on the job's own card; those that save most come first.

    Where the job ran out of memory, the ones that fit come first.

    Args:
        record: of the job as it is.
        events: told how it goes on.
        settings: of the allocator, under which its requests reserve less.
        timeout_s: the time limit of each run.
        allow_busy: use a real card that others use.

    Raises:
        EnvironmentUnfitError: nothing can be run here.
        KeyboardInterrupt: the user has had enough.
    """
    changes = {job_key(change.spec): change for change in most_promising(record, settings)}
    if not changes:
        return ()
    options = SweepOptions(timeout_s=timeout_s, prune=False, allow_busy=allow_busy)
    with ScratchDirectory("explain") as scratch:
        store = RecordStore(scratch.path)
        summary = run_sweep([change.spec for change in changes.values()], store, options, events, seen=())
        if summary.is_interrupted:
            raise KeyboardInterrupt
        found = [stored.record for stored in store.scan().records]
    effects = [effect for one in found if (effect := _effect(changes[one.key], one, base=record)) is not None]
    effects.sort(key=lambda effect: (effect.status is not OutcomeStatus.OK, -effect.saved_bytes))
    return tuple(effects[:NUM_SHOWN])


def most_promising(record: Record, settings: BetterSettings | None) -> list[Change]:
    """The changes that by the formula, or by the replay, save most, and those it says nothing of."""
    changes = possible_changes(record.spec, alloc_conf=settings.alloc_conf if settings else None)
    own = _estimated(record.spec)
    if own is None:
        return list(_one_a_kind(changes))[:NUM_RUN]
    saved = {change.flags: own - (_estimated(change.spec) or 0) for change in changes}
    for change in changes:  # the formula knows nothing of where the allocator puts its blocks
        if settings is not None and change.kind is Lever.ALLOCATOR:
            saved[change.flags] = settings.saved_bytes
    ranked = sorted(changes, key=lambda change: -saved[change.flags])
    return [change for change in _one_a_kind(ranked) if saved[change.flags] > 0][:NUM_RUN]


def _one_a_kind(changes: Iterable[Change]) -> Iterable[Change]:
    """Of the changes of one kind the first."""
    first: dict[Lever, Change] = {}
    for change in changes:
        first.setdefault(change.kind, change)
    return first.values()


def _estimated(spec: JobSpec) -> int | None:
    """The peak by our formula; None where it says nothing."""
    formula = find_formula(DEFAULT_FORMULA)
    try:
        estimated = estimate_job(spec, formula=formula, factors=default_factors(), card=card_of(spec))
    except UnknownShapesError:
        return None
    return single(estimated.corrected.allocated.value_bytes) if isinstance(estimated, Estimate) else None


def _effect(change: Change, found: Record, *, base: Record) -> Effect | None:
    if found.peak is None or base.peak is None or found.outcome.status not in _TOLD:
        return None
    allocated_bytes, reserved_bytes = found.peak.allocated_bytes, found.peak.reserved_bytes
    saved_bytes = base.peak.allocated_bytes - allocated_bytes
    return Effect(
        flags=change.flags,
        cost=change.cost,
        key=found.key,
        status=found.outcome.status,
        allocated_bytes=allocated_bytes,
        reserved_bytes=reserved_bytes,
        saved_bytes=saved_bytes if saved_bytes > 0 else base.peak.reserved_bytes - reserved_bytes,
    )


_TOLD = (OutcomeStatus.OK, OutcomeStatus.OOM)
