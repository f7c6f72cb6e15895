"""Who runs the jobs of a sweep: here the pools of workers of this machine, one day a cluster's queue."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

from profiler.errors import PeakvramError
from profiler.execute.outcome import worker_result
from profiler.execute.pool import ForkServerDiedError
from profiler.execute.prepare import job_environment, prepare_job
from profiler.execute.queue import QueuedJob
from profiler.execute.slots import Slot, Slots
from profiler.records.build import build_record
from profiler.records.fingerprint import fingerprint
from profiler.records.schema import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from profiler.execute.options import SweepOptions
    from profiler.execute.pool import Pool
    from profiler.execute.prepare import PreparedJob, Workplace
    from profiler.jobs.job import JobSpec

_MAX_ATTEMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A job with a place to run, which is kept for it until it is cancelled or has ended.

    Attributes:
        queued: the job as the sweep knows it.
        job: the same with its model and card.
        where: the place's name; no two jobs have one at a time.
    """

    queued: QueuedJob
    job: PreparedJob
    where: str

    @property
    def fingerprint(self) -> str | None:
        """Of the surroundings that its worker will find."""
        return fingerprint(job_environment(self.job), self.job.device)


JobEnd: TypeAlias = tuple[QueuedJob, Record | PeakvramError | None]
"""A job with its record, or with why it was refused; None where it was lost with what it ran on, and has to
be started again."""


class Executor(Protocol):
    """Runs jobs somewhere, several at a time."""

    @property
    def is_full(self) -> bool:
        """Whether there is no place for any job now."""

    @property
    def is_busy(self) -> bool:
        """Whether any job runs."""

    def place(self, queued: QueuedJob) -> Placement | None:
        """A place for a job, or None if there is none free.

        Raises:
            ForkServerError: no job of its kind can be run, now or later.
            PeakvramError: this job cannot be run as it was asked for.
        """

    def cancel(self, placement: Placement) -> None:
        """The job is not to be started after all."""

    def start(self, placement: Placement) -> None:
        """Start a job in its place."""

    def wait(self, timeout_s: float) -> Iterator[JobEnd]:
        """Jobs that have ended within the time given."""


@dataclass(slots=True, kw_only=True)
class _Run:
    placement: Placement
    slot: Slot
    workplace: Workplace
    deadline_s: float | None
    created_at: datetime
    is_late: bool = False


class LocalExecutor:
    """Runs jobs in workers of this machine: virtual ones side by side, one at a time on each real card."""

    def __init__(self, jobs: Sequence[JobSpec], options: SweepOptions) -> None:
        """Starts nothing yet.

        Args:
            jobs: all those of the sweep.
            options: how to run them.
        """
        self._options = options
        self._slots = Slots(jobs, num_workers=options.num_workers, allow_busy=options.allow_busy)
        self._placed: dict[str, Slot] = {}  # by their names
        self._runs: dict[str, _Run] = {}  # by the directory of the workplace
        self._attempts: Counter[str] = Counter()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """The executor itself."""
        self._open.callback(self._close_workplaces)  # once the workers have ended
        self._open.enter_context(self._slots)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every job that runs."""
        self._open.close()

    @property
    def is_full(self) -> bool:
        """Whether there is no place for any job now."""
        return self._slots.are_all_taken

    @property
    def is_busy(self) -> bool:
        """Whether any job runs."""
        return bool(self._runs)

    def place(self, queued: QueuedJob) -> Placement | None:
        """A free worker, on a card that nobody uses; see `Executor`."""
        slot = self._slots.take(queued.spec)
        if slot is None:
            return None
        try:
            job = prepare_job(queued.spec, slot.choice, allow_busy=self._options.allow_busy)
        except PeakvramError:
            self._slots.give(slot)
            raise
        self._placed[slot.name] = slot
        return Placement(queued=queued, job=job, where=slot.name)

    def cancel(self, placement: Placement) -> None:
        """The worker and the card are free again."""
        self._slots.give(self._placed.pop(placement.where))

    def start(self, placement: Placement) -> None:
        """Fork a worker for it."""
        slot = self._placed[placement.where]
        workplace = slot.pool.workplace(placement.job)
        limit_s = self._options.timeout_s
        self._runs[str(workplace.directory)] = _Run(
            placement=placement,
            slot=slot,
            workplace=workplace,
            deadline_s=None if limit_s is None else time.monotonic() + limit_s,
            created_at=datetime.now(UTC),
        )
        slot.pool.submit(workplace)

    def wait(self, timeout_s: float) -> Iterator[JobEnd]:
        """What has ended in any pool; see `Executor`.

        Raises:
            ForkServerError: fork servers die again and again.
        """
        for pool in self._slots.pools:
            try:
                for answer in pool.wait(timeout_s / len(self._slots.pools)):
                    if answer.event == "ended":
                        run = self._runs.pop(answer.directory)
                        yield run.placement.queued, self._finish(run, answer.exit_code)
            except ForkServerDiedError:
                yield from self._lose(pool)
                self._slots.replace(pool)
        self._kill_late()

    def _finish(self, run: _Run, exit_code: int) -> Record | PeakvramError:
        self.cancel(run.placement)
        limit_s = self._options.timeout_s if run.is_late else None
        try:
            with run.workplace as place:
                result = worker_result(place.directory, place.request, exit_code, time_limit_s=limit_s)
        except PeakvramError as error:
            return error
        return build_record(
            spec=run.placement.job.spec,
            report=result.report,
            outcome=result.outcome,
            created_at=run.created_at,
        )

    def _lose(self, pool: Pool) -> Iterator[JobEnd]:
        """A fork server died with its jobs: not their fault, unless it happens twice to the same one."""
        for directory, run in list(self._runs.items()):
            if run.slot.pool is not pool:
                continue
            del self._runs[directory]
            queued = run.placement.queued
            self._attempts[queued.key] += pool.has_started(run.workplace.directory)
            if self._attempts[queued.key] >= _MAX_ATTEMPTS:
                yield queued, self._finish(run, -signal.SIGKILL)
                continue
            self.cancel(run.placement)
            run.workplace.close()
            yield queued, None

    def _kill_late(self) -> None:
        now_s = time.monotonic()
        for run in self._runs.values():
            if run.deadline_s is not None and now_s > run.deadline_s and not run.is_late:
                run.is_late = True
                run.slot.pool.kill(run.workplace.directory)

    def _close_workplaces(self) -> None:
        for run in self._runs.values():
            run.workplace.close()
