"""Which job of a sweep is next, and which need not run: one larger than another that ran out of memory.

Jobs that differ only in batch size and length form a family. Within it a job waits for every smaller one (no
larger in either), so that what is inferred does not depend on how fast the workers are.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from profiler.jobs.identity import job_key
from profiler.records.build import build_record
from profiler.records.schema import Outcome, OutcomeStatus, Record, WorkerReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from profiler.jobs.job import JobSpec


_ELSEWHERE_S = 2.0
"""When to look again at a job that another sweep runs."""


@dataclass(slots=True, eq=False, kw_only=True)
class QueuedJob:
    """A job of a sweep until it has ended.

    Attributes:
        key: of the job.
        family: the jobs that it may wait for.
        again_s: it is not to be looked at before, by the monotonic clock.
    """

    spec: JobSpec
    key: str
    family: Family
    again_s: float = 0.0


class JobQueue:
    """The jobs of a sweep that have not been started, small ones first."""

    def __init__(self, jobs: Sequence[JobSpec], seen: Iterable[Record], *, prune: bool) -> None:
        """All of them wait.

        Args:
            jobs: to be run.
            seen: earlier records, as `families` takes them.
            prune: infer that a job runs out of memory, which is known once all smaller ones have ended.
        """
        by_name = families(jobs, seen)
        self._prune = prune
        self._waiting = [
            QueuedJob(spec=spec, key=job_key(spec), family=by_name[family_of(spec)])
            for spec in in_order(jobs)
        ]

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def ready(self) -> Iterator[QueuedJob]:
        """Those that may start, in order, as things are when each is reached."""
        for job in list(self._waiting):
            if time.monotonic() >= job.again_s and (not self._prune or job.family.is_ready(job.spec)):
                yield job

    def infer(self, job: QueuedJob) -> Record | None:
        """The record of a job that need not run."""
        return job.family.infer(job.spec) if self._prune else None

    def postpone(self, job: QueuedJob) -> None:
        """Another sweep runs it: look again later."""
        job.again_s = time.monotonic() + _ELSEWHERE_S

    def start(self, job: QueuedJob) -> None:
        """It waits no longer."""
        self._waiting.remove(job)

    def put_back(self, job: QueuedJob) -> None:
        """It was started in vain, and comes before all others."""
        self._waiting.insert(0, job)

    def finish(self, job: QueuedJob, record: Record | None) -> None:
        """It is over, whether it was started or not, with its record if it has one."""
        if job in self._waiting:
            self._waiting.remove(job)
        job.family.finish(job.spec, record)


def in_order(jobs: Iterable[JobSpec]) -> list[JobSpec]:
    """Small before large by tokens a step; of equals, in the order they came."""
    return sorted(jobs, key=lambda job: job.batch_size * job.seq_len)


class Family:
    """Jobs that differ only in batch size and length: who waits for whom, and what has run out of memory."""

    def __init__(self) -> None:
        """Starts empty."""
        self._unfinished: set[tuple[int, int]] = set()
        self._ooms: list[Record] = []

    def add(self, job: JobSpec) -> None:
        """A job of this family is to run."""
        self._unfinished.add(_size(job))

    def recall(self, record: Record) -> None:
        """A job of this family has run before, and is not to run again."""
        if record.outcome.status is OutcomeStatus.OOM:
            self._ooms.append(record)

    def is_ready(self, job: JobSpec) -> bool:
        """Whether every smaller job has finished."""
        return not any(size != _size(job) and _is_within(size, _size(job)) for size in self._unfinished)

    def finish(self, job: JobSpec, record: Record | None) -> None:
        """A job is over, with its record if it has one."""
        self._unfinished.discard(_size(job))
        if record is not None:
            self.recall(record)

    def infer(self, job: JobSpec) -> Record | None:
        """The record of a job that is at least as large, in both, as one that ran out of memory."""
        for oom in self._ooms:
            if _is_within(_size(oom.spec), _size(job)):
                return _inferred(job, oom)
        return None


def families(jobs: Sequence[JobSpec], seen: Iterable[Record] = ()) -> dict[str, Family]:
    """The families of these jobs, by `family_of`.

    Args:
        jobs: to be run.
        seen: earlier records, in the same surroundings, of these jobs (which count no more) and others.
    """
    by_name: dict[str, Family] = defaultdict(Family)
    for job in jobs:
        by_name[family_of(job)].add(job)
    keys = {job_key(job) for job in jobs}
    for record in seen:
        if record.key not in keys:
            by_name[family_of(record.spec)].recall(record)
    return dict(by_name)


def family_of(job: JobSpec) -> str:
    """What a job shares with those that differ from it in batch size and length alone."""
    gpu = "real" if job.is_real_gpu_asked else job.gpu  # as in the key of a job
    return job.model_copy(update={"batch_size": 1, "seq_len": 1, "gpu": gpu}).model_dump_json()


def _size(job: JobSpec) -> tuple[int, int]:
    return job.batch_size, job.seq_len


def _is_within(small: tuple[int, int], large: tuple[int, int]) -> bool:
    return small[0] <= large[0] and small[1] <= large[1]


def _inferred(job: JobSpec, oom: Record) -> Record:
    assert oom.device is not None
    assert oom.environment is not None
    source = oom.outcome.inferred_from or oom.key
    outcome = Outcome(
        status=OutcomeStatus.OOM,
        message=f"not run: the same job with batch {oom.spec.batch_size} x {oom.spec.seq_len} tokens "
        "ran out of memory",
        inferred_from=source,
    )
    report = WorkerReport(device=oom.device, environment=oom.environment)
    return build_record(
        spec=job.model_copy(update={"gpu": oom.spec.gpu}),
        report=report,
        outcome=outcome,
        created_at=datetime.now(UTC),
    )
