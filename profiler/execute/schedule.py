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
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError, PeakvramError
from profiler.execute.judge import Ended, judge
from profiler.execute.options import Counts, SweepEvents, SweepOptions, SweepSummary
from profiler.execute.pending import Rerun, pending_jobs
from profiler.execute.pool import ForkServerDiedError, ForkServerError
from profiler.execute.prepare import PreparedJob, Workplace, job_environment, prepare_job
from profiler.execute.prune import Family, families, family_of, in_order
from profiler.execute.slots import Slot, Slots, resolve_auto
from profiler.jobs.identity import job_key
from profiler.process.interrupts import Interrupts
from profiler.process.locks import Locks
from profiler.records.build import build_record
from profiler.records.fingerprint import fingerprint, fingerprint_of, identity_of
from profiler.records.naming import job_file_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Device, Record
    from profiler.records.store import RecordStore

__all__ = ["SweepEvents", "SweepOptions", "SweepSummary", "run_sweep"]

_IDLE_S = 0.5
_ELSEWHERE_S = 2.0
_MAX_ATTEMPTS = 2


@dataclass(slots=True, eq=False)
class _Wanted:
    spec: JobSpec
    family: Family
    again_s: float = 0.0  # when to look again at a job that another sweep holds


@dataclass(slots=True, kw_only=True)
class _Running:
    wanted: _Wanted
    job: PreparedJob
    key: str
    slot: Slot
    workplace: Workplace
    deadline_s: float | None
    created_at: datetime
    is_late: bool = False


def run_sweep(
    jobs: Sequence[JobSpec],
    store: RecordStore,
    options: SweepOptions,
    events: SweepEvents,
    *,
    seen: Sequence[Record] | None = None,
) -> SweepSummary:
    """Run these jobs, small ones first, and store a record of each as it ends.

    Args:
        jobs: to be run, whether they have a record or not.
        store: where the records go.
        options: how to run them.
        events: told how it goes on.
        seen: the sweep's records as they were when `jobs` were chosen (`Pending.seen`). A job with another
            one has been run since, by another sweep, and is not run again. None looks for them now.

    Raises:
        EnvironmentUnfitError: nothing can be run here, or stored there; what was stored stays.
    """
    jobs = resolve_auto(jobs)
    store.clear_leftovers()
    if seen is None:
        seen = pending_jobs(jobs, store, rerun=Rerun.ALL).seen
    slots = Slots(jobs, num_workers=options.num_workers, allow_busy=options.allow_busy)
    locks = Locks(store.directory / ".locks")
    sweep = _Sweep(store, options, events, locks=locks, slots=slots)
    with Interrupts() as interrupts, locks, ExitStack() as ending:
        ending.callback(sweep.close)  # once the workers have ended
        ending.enter_context(slots)
        ending.callback(interrupts.ignore)  # a second Ctrl-C must not keep us from ending them
        return sweep.run(jobs, seen)


@dataclass(slots=True)
class _Sweep:
    store: RecordStore
    options: SweepOptions
    events: SweepEvents
    locks: Locks = field(kw_only=True)
    slots: Slots = field(kw_only=True)
    counts: Counts = field(default_factory=Counts)
    todo: list[_Wanted] = field(default_factory=list)
    running: dict[str, _Running] = field(default_factory=dict)  # by the workplace's directory
    attempts: Counter[str] = field(default_factory=Counter)
    seen: frozenset[object] = frozenset()
    unfit: list[EnvironmentUnfitError] = field(default_factory=list)

    def run(self, jobs: Sequence[JobSpec], seen: Sequence[Record]) -> SweepSummary:
        self.seen = frozenset(_stamp(record) for record in seen)
        family_by_name = families(jobs, seen)
        self.todo = [_Wanted(job, family_by_name[family_of(job)]) for job in in_order(jobs)]
        is_interrupted = False
        try:
            while self.todo or self.running:
                if self.options.fail_fast and (self.counts.failed or self.counts.refused):
                    break
                self._start_what_can_be()
                self._wait()
        except KeyboardInterrupt:
            is_interrupted = True
        if self.unfit and len(self.unfit) == len(jobs):
            raise self.unfit[0]
        return self.counts.summary(is_interrupted=is_interrupted)

    def close(self) -> None:
        for running in self.running.values():
            running.workplace.close()

    # ---- starting ----

    def _start_what_can_be(self) -> None:
        full: set[str] = set()  # cards that have been asked for in vain
        for wanted in list(self.todo):
            if wanted.spec.gpu in full or time.monotonic() < wanted.again_s:
                continue
            if self.options.prune and not wanted.family.is_ready(wanted.spec):
                continue
            if self.options.prune and (record := wanted.family.infer(wanted.spec)) is not None:
                self._infer(wanted, record)
                continue
            if self.slots.are_all_taken:
                return
            try:
                slot = self.slots.take(wanted.spec)
            except ForkServerError:
                raise
            except PeakvramError as error:
                self._refuse(wanted, error)
                continue
            if slot is None:
                full.add(wanted.spec.gpu)
            else:
                self._start(wanted, slot)

    def _infer(self, wanted: _Wanted, record: Record) -> None:
        key = record.key
        if not self.locks.take(key):
            wanted.again_s = time.monotonic() + _ELSEWHERE_S
            return
        found = self._find_new(record.spec, record.device, key=key, print_=fingerprint_of(record))
        if found is None:
            self._finish(wanted, record)
        else:
            self._account(wanted, found)
        self.locks.release(key)

    def _start(self, wanted: _Wanted, slot: Slot) -> None:
        try:
            job = prepare_job(wanted.spec, slot.choice, allow_busy=self.options.allow_busy)
        except PeakvramError as error:
            self.slots.give(slot)
            self._refuse(wanted, error)
            return
        key = job_key(job.spec)
        if not self._lock(wanted, job, key):
            self.slots.give(slot)
            return
        workplace = slot.pool.workplace(job)
        limit_s = self.options.timeout_s
        self.running[str(workplace.directory)] = _Running(
            wanted=wanted,
            job=job,
            key=key,
            slot=slot,
            workplace=workplace,
            deadline_s=None if limit_s is None else time.monotonic() + limit_s,
            created_at=datetime.now(UTC),
        )
        self.todo.remove(wanted)
        slot.pool.submit(workplace)
        self.events.started(job.spec, slot.name)

    def _lock(self, wanted: _Wanted, job: PreparedJob, key: str) -> bool:
        """Whether this sweep is to run the job: not if another one runs it now, or has just done so."""
        if not self.locks.take(key):
            wanted.again_s = time.monotonic() + _ELSEWHERE_S
            return False
        print_ = fingerprint(job_environment(job), job.device)
        found = self._find_new(job.spec, job.device, key=key, print_=print_)
        if found is None:
            return True
        self._account(wanted, found)
        self.locks.release(key)
        return False

    def _find_new(
        self, spec: JobSpec, device: Device | None, *, key: str, print_: str | None
    ) -> Record | None:
        """What another sweep has stored of a job since this one was planned."""
        name = job_file_name(spec, device, key=key, fingerprint=print_)
        found = self.store.find(key, print_, name=name)
        return None if found is None or _stamp(found) in self.seen else found

    # ---- waiting and ending ----

    def _wait(self) -> None:
        if not self.running:
            if self.todo:
                time.sleep(_IDLE_S)  # all that is left is held by another sweep
            return
        for pool in self.slots.pools:
            try:
                for answer in pool.wait(_IDLE_S / len(self.slots.pools)):
                    if answer.event == "ended":
                        self._end(self.running.pop(answer.directory), answer.exit_code)
            except ForkServerDiedError:
                self._run_again([running for running in self.running.values() if running.slot.pool is pool])
                self.slots.replace(pool)
        now_s = time.monotonic()
        for running in self.running.values():
            if running.deadline_s is not None and now_s > running.deadline_s and not running.is_late:
                running.is_late = True
                running.slot.pool.kill(running.workplace.directory)

    def _end(self, running: _Running, exit_code: int) -> None:
        self.slots.give(running.slot)
        limit_s = self.options.timeout_s if running.is_late else None
        try:
            with running.workplace as place:
                ended = judge(place.directory, place.request, exit_code, time_limit_s=limit_s)
        except PeakvramError as error:
            self._refuse(running.wanted, error)
        else:
            self._finish(running.wanted, _record(running, ended))
        self.locks.release(running.key)

    def _run_again(self, interrupted: list[_Running]) -> None:
        """The fork server died with these: not their fault, unless it happens twice to the same job."""
        for running in interrupted:
            self.attempts[running.key] += running.slot.pool.has_started(running.workplace.directory)
            del self.running[str(running.workplace.directory)]
            if self.attempts[running.key] >= _MAX_ATTEMPTS:
                self._end(running, -signal.SIGKILL)
                continue
            self.slots.give(running.slot)
            running.workplace.close()
            self.todo.insert(0, running.wanted)
            self.locks.release(running.key)

    def _finish(self, wanted: _Wanted, record: Record) -> None:
        self.store.put(record)
        self._account(wanted, record)

    def _account(self, wanted: _Wanted, record: Record) -> None:
        self._forget(wanted, record)
        self.counts.add(record)
        self.events.finished(record)

    def _refuse(self, wanted: _Wanted, error: PeakvramError) -> None:
        self._forget(wanted, None)
        self.counts.refused += 1
        if isinstance(error, EnvironmentUnfitError):
            self.unfit.append(error)
        self.events.refused(wanted.spec, error)

    def _forget(self, wanted: _Wanted, record: Record | None) -> None:
        if wanted in self.todo:
            self.todo.remove(wanted)
        wanted.family.finish(wanted.spec, record)


def _record(running: _Running, ended: Ended) -> Record:
    return build_record(
        spec=running.job.spec, report=ended.report, outcome=ended.outcome, created_at=running.created_at
    )


def _stamp(record: Record) -> object:
    return identity_of(record), record.created_at
