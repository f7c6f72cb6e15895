"""Running a sweep: which job goes where and when, and what becomes of each.

One thread, one loop: start what can be started, wait for something to happen, judge what has ended, store it.
Every record is stored as its job ends, so that whatever happens next loses none.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from profiler.errors import PeakvramError
from profiler.execute.claims import Claims
from profiler.execute.judge import Ended, judge
from profiler.execute.pool import NurseryDiedError
from profiler.execute.prepare import PreparedJob, Workplace, job_environment, prepare_job
from profiler.execute.prune import Family, families, family_of, in_order
from profiler.execute.slots import Slot, Slots
from profiler.records.build import build_record
from profiler.records.fingerprint import fingerprint
from profiler.records.schema import OutcomeStatus, Record
from profiler.spec.identity import job_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.records.store import RecordStore
    from profiler.spec.job import JobSpec

_IDLE_S = 0.5
_ELSEWHERE_S = 2.0
_MAX_ATTEMPTS = 2
_FAILED = frozenset({OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT, OutcomeStatus.KILLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """How to run a sweep.

    Attributes:
        timeout_s: the time limit of each job; None for none.
        fail_fast: stop at the first job that fails.
        prune: infer that a job runs out of memory from a smaller one that did.
        allow_busy: use real cards that other processes use.
        num_workers: virtual jobs at a time; None for one a core. A real card takes one at a time.
    """

    timeout_s: float | None = None
    fail_fast: bool = False
    prune: bool = True
    allow_busy: bool = False
    num_workers: int | None = None


class SweepEvents(Protocol):
    """Who is told how a sweep goes on."""

    def started(self, spec: JobSpec, worker: str) -> None:
        """A job has been started."""

    def finished(self, record: Record) -> None:
        """A job is over and its record stored, inferred ones included."""

    def refused(self, spec: JobSpec, error: PeakvramError) -> None:
        """A job cannot be run as it was asked for; it has no record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSummary:
    """How a sweep ended."""

    num_done: int
    num_oom: int
    num_inferred: int
    num_failed: int
    num_refused: int
    is_interrupted: bool


@dataclass(slots=True, kw_only=True)
class _Running:
    job: PreparedJob
    asked: JobSpec
    key: str
    slot: Slot
    workplace: Workplace
    deadline_s: float | None
    created_at: datetime
    is_late: bool = False


@dataclass(slots=True)
class _Counts:
    done: int = 0
    oom: int = 0
    inferred: int = 0
    failed: int = 0
    refused: int = 0

    def add(self, record: Record) -> None:
        status = record.outcome.status
        self.done += status is OutcomeStatus.OK
        self.oom += status is OutcomeStatus.OOM
        self.inferred += record.outcome.inferred_from is not None
        self.failed += status in _FAILED


def run_sweep(
    jobs: Sequence[JobSpec], store: RecordStore, options: SweepOptions, events: SweepEvents
) -> SweepSummary:
    """Run these jobs, small ones first, and store a record of each as it ends.

    Raises:
        EnvironmentUnfitError: nothing can be run here, or stored there; what was stored stays.
    """
    with ExitStack() as stack:
        claims = stack.enter_context(Claims(store.directory / ".claims"))
        slots = stack.enter_context(Slots(jobs, options.num_workers))
        return _Sweep(jobs, store, options, events, claims=claims, slots=slots).run()


@dataclass(slots=True)
class _Sweep:
    jobs: Sequence[JobSpec]
    store: RecordStore
    options: SweepOptions
    events: SweepEvents
    claims: Claims = field(kw_only=True)
    slots: Slots = field(kw_only=True)
    counts: _Counts = field(default_factory=_Counts)
    todo: list[JobSpec] = field(default_factory=list)
    running: dict[str, _Running] = field(default_factory=dict)  # by the workplace's directory
    families: dict[str, Family] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    elsewhere: dict[str, float] = field(
        default_factory=dict
    )  # jobs another sweep has claimed: when to look again
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run(self) -> SweepSummary:
        self.todo = in_order(self.jobs)
        self.families = families(self.todo)
        is_interrupted = False
        try:
            while self.todo or self.running:
                if self.options.fail_fast and (self.counts.failed or self.counts.refused):
                    break
                self._start_what_can_be()
                self._wait()
        except KeyboardInterrupt:
            is_interrupted = True
        finally:
            for running in self.running.values():
                running.workplace.close()
        counts = self.counts
        return SweepSummary(
            num_done=counts.done,
            num_oom=counts.oom,
            num_inferred=counts.inferred,
            num_failed=counts.failed,
            num_refused=counts.refused,
            is_interrupted=is_interrupted,
        )

    # ---- starting ----

    def _start_what_can_be(self) -> None:
        for job in list(self.todo):
            if time.monotonic() < self.elsewhere.get(job.model_dump_json(), 0):
                continue
            family = self.families[family_of(job)]
            if self.options.prune and not family.is_ready(job):
                continue
            if self.options.prune and (record := family.infer(job)) is not None:
                self._finish(job, record)
                continue
            if self.slots.are_all_taken:
                return
            try:
                slot = self.slots.take(job)
            except PeakvramError as error:
                self._refuse(job, error)
                continue
            if slot is not None:
                self._start(job, slot)

    def _start(self, asked: JobSpec, slot: Slot) -> None:
        try:
            job = prepare_job(asked, slot.choice, allow_busy=self.options.allow_busy)
            key = job_key(job.spec)
            if not self._claim(asked, job, key):
                self.slots.give(slot)
                return
            workplace = Workplace(job)
        except PeakvramError as error:
            self.slots.give(slot)
            self._refuse(asked, error)
            return
        name = str(workplace.directory)
        limit_s = self.options.timeout_s
        self.running[name] = _Running(
            job=job,
            asked=asked,
            key=key,
            slot=slot,
            workplace=workplace,
            deadline_s=None if limit_s is None else time.monotonic() + limit_s,
            created_at=datetime.now(UTC),
        )
        self.todo.remove(asked)
        slot.pool.submit(workplace)
        self.events.started(job.spec, slot.name)

    def _claim(self, asked: JobSpec, job: PreparedJob, key: str) -> bool:
        """Whether this sweep is to run the job: not if another one runs it now, or has just done so."""
        if not self.claims.take(key):
            self.elsewhere[asked.model_dump_json()] = time.monotonic() + _ELSEWHERE_S
            return False
        found = self.store.find(key, fingerprint(job_environment(job), job.device))
        if found is None or found.created_at < self.began_at:
            return True
        self.claims.release(key)
        self.todo.remove(asked)
        self.families[family_of(asked)].finish(asked, found)
        self.counts.add(found)
        self.events.finished(found)
        return False

    # ---- waiting and ending ----

    def _wait(self) -> None:
        if not self.running:
            if self.todo:
                time.sleep(_IDLE_S)  # all that is left is claimed by another sweep
            return
        for pool in self.slots.pools:
            try:
                for answer in pool.wait(_IDLE_S / len(self.slots.pools)):
                    if answer.event == "ended":
                        self._end(self.running.pop(answer.directory), answer.exit_code)
            except NurseryDiedError:
                self._run_again([running for running in self.running.values() if running.slot.pool is pool])
                self.slots.replace(pool)
        now_s = time.monotonic()
        for running in self.running.values():
            if running.deadline_s is not None and now_s > running.deadline_s and not running.is_late:
                running.is_late = True
                running.slot.pool.kill(running.workplace.directory)

    def _end(self, running: _Running, exit_code: int) -> None:
        try:
            with running.workplace as place:
                limit_s = self.options.timeout_s if running.is_late else None
                ended = judge(place.directory, place.request, exit_code, time_limit_s=limit_s)
        except PeakvramError as error:
            self._refuse(running.asked, error)
            self.claims.release(running.key)
            return
        finally:
            self.slots.give(running.slot)
        self._finish(running.asked, _record(running, ended))
        self.claims.release(running.key)

    def _run_again(self, interrupted: list[_Running]) -> None:
        """The nursery died with these: not their fault, unless it happens twice to the same job."""
        for running in interrupted:
            del self.running[str(running.workplace.directory)]
            self.slots.give(running.slot)
            self.attempts[running.key] += 1
            if self.attempts[running.key] < _MAX_ATTEMPTS:
                running.workplace.close()
                self.todo.insert(0, running.asked)
            else:
                with running.workplace as place:
                    ended = judge(place.directory, place.request, -signal.SIGKILL)
                self._finish(running.asked, _record(running, ended))
            self.claims.release(running.key)

    def _finish(self, asked: JobSpec, record: Record) -> None:
        self.store.put(record)
        if asked in self.todo:
            self.todo.remove(asked)
        self.families[family_of(asked)].finish(asked, record)
        self.counts.add(record)
        self.events.finished(record)

    def _refuse(self, asked: JobSpec, error: PeakvramError) -> None:
        if asked in self.todo:
            self.todo.remove(asked)
        self.families[family_of(asked)].finish(asked, None)
        self.counts.refused += 1
        self.events.refused(asked, error)


def _record(running: _Running, ended: Ended) -> Record:
    return build_record(
        spec=running.job.spec, report=ended.report, outcome=ended.outcome, created_at=running.created_at
    )
