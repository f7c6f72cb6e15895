"""Which jobs of a sweep are still to be run, and which have their record already."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from profiler.errors import PeakvramError
from profiler.execute.options import FAILED
from profiler.execute.prepare import surroundings_of
from profiler.hardware.catalogue import Gpu
from profiler.hardware.discovery import choose_device
from profiler.jobs.identity import job_key
from profiler.records.fingerprint import identity_of
from profiler.records.schema import OutcomeStatus, Record
from profiler.records.slim import Slimmer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.hardware.discovery import DeviceChoice
    from profiler.jobs.job import JobSpec
    from profiler.records.fingerprint import Identity
    from profiler.records.store import RecordStore


class Rerun(StrEnum):
    """Which stored jobs to run again: none but the missing, the failed ones, those out of memory, or all."""

    MISSING = "missing"
    FAILED = "failed"
    OOM = "oom"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The jobs of a sweep, told apart.

    Attributes:
        todo: to be run, `auto` made what it stands for here.
        stored: the records that stand for the others, without their phases, as those seen.
        seen: those of all the jobs, to be run again or not.
    """

    todo: tuple[JobSpec, ...]
    stored: tuple[Record, ...]
    seen: tuple[Record, ...] = ()


def pending_jobs(jobs: Sequence[JobSpec], store: RecordStore, *, rerun: Rerun = Rerun.MISSING) -> Pending:
    """Tell jobs that are to be run from those with a record of the same job in the same surroundings.

    A job whose card cannot be found counts as to be run: running it says what is amiss.

    Raises:
        ConfigError: the study's directory cannot be read.
        EnvironmentUnfitError: no card can be had for `auto`.
    """
    choices: dict[tuple[str, int | None], DeviceChoice | None] = {}  # each card is looked up once
    wanted: list[tuple[JobSpec, Identity]] = []
    for job in resolve_auto(jobs):
        card = (job.gpu, job.gpu_memory_bytes)
        if card not in choices:
            choices[card] = _choose(*card)
        choice = choices[card]
        wanted.append((job, (job_key(job), None if choice is None else surroundings_of(job, choice))))
    slimmer, found = Slimmer(), store.read({identity for _, identity in wanted})
    known = {identity_of(item.record): slimmer.slim(item.record) for item in found}
    todo: list[JobSpec] = []
    stored: list[Record] = []
    seen: list[Record] = []
    for job, identity in wanted:
        record = known.get(identity)
        if record is not None:
            seen.append(record)
        if record is None or _is_wanted_again(record, rerun):
            todo.append(job)
        else:
            stored.append(record)
    return Pending(todo=tuple(todo), stored=tuple(stored), seen=tuple(seen))


def resolve_auto(jobs: Sequence[JobSpec]) -> list[JobSpec]:
    """The same jobs with `auto` made what it stands for here: a real card, or the default virtual one."""
    if all(job.gpu != "auto" for job in jobs):
        return list(jobs)
    gpu = choose_device("auto").gpu
    name = gpu.id if isinstance(gpu, Gpu) else "real"
    return [job.model_copy(update={"gpu": name}) if job.gpu == "auto" else job for job in jobs]


def _choose(gpu: str, memory_bytes: int | None) -> DeviceChoice | None:
    try:
        return choose_device(gpu, gpu_memory_bytes=memory_bytes)
    except PeakvramError:
        return None


def _is_wanted_again(record: Record, rerun: Rerun) -> bool:
    status = record.outcome.status
    match rerun:
        case Rerun.MISSING:
            return False
        case Rerun.FAILED:
            return status in FAILED
        case Rerun.OOM:
            return status is OutcomeStatus.OOM
        case Rerun.ALL:
            return True
        case _:
            assert_never(rerun)
