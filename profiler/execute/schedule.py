"""Running a sweep: which job goes where and when, and what becomes of each.

One thread, one loop: start what can be started, wait for something to happen, settle what has ended. A job
comes from the queue, goes to the executor, and what comes back is stored at once, so that whatever happens
next loses none.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError, MachineFaultError, PeakvramError
from profiler.execute.executor import LocalExecutor
from profiler.execute.options import SweepEvents, SweepOptions, SweepSummary
from profiler.execute.pending import Rerun, pending_jobs, resolve_auto
from profiler.execute.pool import ForkServerError
from profiler.execute.queue import JobQueue
from profiler.process.interrupts import Interrupts
from profiler.process.locks import Locks
from profiler.records.fingerprint import fingerprint_of, identity_of
from profiler.records.naming import job_file_name
from profiler.records.schema import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.execute.executor import Executor, JobEnd, Placement
    from profiler.execute.queue import QueuedJob
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Device
    from profiler.records.store import RecordStore

__all__ = ["SweepEvents", "SweepOptions", "SweepSummary", "run_sweep"]

_IDLE_S = 0.5


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
    queue = JobQueue(jobs, seen, prune=options.prune)
    with Interrupts() as interrupts, Locks(store.directory / ".locks") as locks, ExitStack() as ending:
        executor = ending.enter_context(LocalExecutor(jobs, options))
        ending.callback(interrupts.ignore)  # a second Ctrl-C must not keep us from ending the workers
        return _run_queue(queue, executor, _SharedStudy(store, seen, locks), options, events)


def _run_queue(
    queue: JobQueue, executor: Executor, study: _SharedStudy, options: SweepOptions, events: SweepEvents
) -> SweepSummary:
    num_jobs, summary, unfit = len(queue), SweepSummary(), list[EnvironmentUnfitError]()
    try:
        while queue or executor.is_busy:
            if options.fail_fast and (summary.num_failed or summary.num_refused):
                break
            # One by one: what has become of a job decides whether the next need be started.
            for job, end in chain(
                _start_ready(queue, executor, study, events), _wait(queue, executor, study)
            ):
                match end:
                    case Record():
                        queue.finish(job, end)
                        summary.add(end)
                        events.finished(end)
                    case PeakvramError():
                        queue.finish(job, None)
                        summary.num_refused += 1
                        summary.is_machine_at_fault |= isinstance(end, MachineFaultError)
                        unfit += [end] if isinstance(end, EnvironmentUnfitError) else []
                        events.refused(job.spec, end)
                    case None:
                        queue.put_back(job)
                study.release(job)
    except KeyboardInterrupt:
        summary.is_interrupted = True
    if unfit and len(unfit) == num_jobs:
        raise unfit[0]
    return summary


def _start_ready(
    queue: JobQueue, executor: Executor, study: _SharedStudy, events: SweepEvents
) -> Iterator[JobEnd]:
    """Starts what can be started; the ends of jobs that need not be, or cannot."""
    full: set[str] = set()  # cards that have been asked for in vain
    for job in queue.ready():
        if (inferred := queue.infer(job)) is not None:
            if study.hold(job):
                found = study.find_new(inferred.spec, inferred.device, job.key, fingerprint_of(inferred))
                yield job, found or study.put(inferred)
            else:
                queue.postpone(job)
        elif executor.is_full:
            return
        elif job.spec.gpu not in full:
            placement = _place(job, executor)
            if isinstance(placement, PeakvramError):
                yield job, placement
            elif placement is None:
                full.add(job.spec.gpu)
            elif not study.hold(job):
                executor.cancel(placement)
                queue.postpone(job)
            elif (record := _find_placed(study, placement)) is not None:
                executor.cancel(placement)
                yield job, record
            else:
                executor.start(placement)
                queue.start(job)
                events.started(placement.job.spec, placement.where)


def _find_placed(study: _SharedStudy, placement: Placement) -> Record | None:
    job = placement.job
    return study.find_new(job.spec, job.device, placement.queued.key, placement.fingerprint)


def _place(job: QueuedJob, executor: Executor) -> Placement | PeakvramError | None:
    try:
        return executor.place(job)
    except ForkServerError:  # no other job can be run either
        raise
    except PeakvramError as error:
        return error


def _wait(queue: JobQueue, executor: Executor, study: _SharedStudy) -> Iterator[JobEnd]:
    """Jobs that have ended meanwhile, their records stored."""
    if not executor.is_busy:
        time.sleep(_IDLE_S if queue else 0)  # all that is left is held by another sweep
        return
    for job, end in executor.wait(_IDLE_S):
        yield job, study.put(end) if isinstance(end, Record) else end


class _SharedStudy:
    """Records that several sweeps may make at once: each job is run by the one that holds its lock."""

    def __init__(self, store: RecordStore, seen: Sequence[Record], locks: Locks) -> None:
        self._store, self._locks = store, locks
        self._seen = {(identity_of(record), record.created_at) for record in seen}
        self._held: set[QueuedJob] = set()

    def hold(self, job: QueuedJob) -> bool:
        """False where another sweep has the job, or we do for another card of its kind."""
        if is_held := self._locks.take(job.key):
            self._held.add(job)
        return is_held

    def release(self, job: QueuedJob) -> None:
        if job in self._held:
            self._held.remove(job)
            self._locks.release(job.key)

    def find_new(self, spec: JobSpec, device: Device | None, key: str, print_: str | None) -> Record | None:
        """What another sweep has stored of a job since this one was planned."""
        name = job_file_name(spec, device, key=key, fingerprint=print_)
        record = self._store.find(key, print_, name=name)
        is_known = record is None or (identity_of(record), record.created_at) in self._seen
        return None if is_known else record

    def put(self, record: Record) -> Record:
        self._store.put(record)
        return record
