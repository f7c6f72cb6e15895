"""What stands in for the part of the package that runs sweeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from profiler.execute.options import SweepOptions, SweepSummary
from profiler.execute.pending import Pending, Rerun
from profiler.jobs.identity import job_key
from profiler.records.schema import Outcome, OutcomeStatus, Record
from tests.builders import OK, a_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from profiler.errors import PeakvramError
    from profiler.jobs.job import JobSpec
    from profiler.records.store import RecordStore

SWEEP = """
name: test
description: Two lengths and two batches.
base: {model: llama-3.1-8b, gpu: rtx-4090}
axes: {seq_len: [512, 1024], batch_size: [1, 2]}
"""


@dataclass
class Scheduler:
    """Stands in for the part that runs jobs: stores what `answer` makes of each, or refuses it."""

    answer: Callable[[JobSpec], Record | PeakvramError] = lambda spec: a_record(spec=spec)
    interrupt_after: int | None = None
    asked: list[JobSpec] = field(default_factory=list)
    options: SweepOptions = field(default_factory=SweepOptions)
    rerun: str = ""

    def pending_jobs(
        self, jobs: Sequence[JobSpec], store: RecordStore, *, rerun: Rerun = Rerun.MISSING
    ) -> Pending:
        self.rerun = rerun
        known = {stored.record.key: stored.record for stored in store.scan().records}
        if rerun is Rerun.ALL:
            known = {}
        stored = tuple(known[job_key(job)] for job in jobs if job_key(job) in known)
        return Pending(
            todo=tuple(job for job in jobs if job_key(job) not in known), stored=stored, seen=stored
        )

    def run_sweep(
        self,
        jobs: Sequence[JobSpec],
        store: RecordStore,
        options: SweepOptions,
        events: Any,
        *,
        seen: Sequence[Record] | None = None,
    ) -> SweepSummary:
        self.options, self.seen, summary = options, seen, SweepSummary()
        for number, job in enumerate(jobs):
            if number == self.interrupt_after:
                summary.is_interrupted = True
                break
            self.asked.append(job)
            events.started(job, "virtual 0")
            answer = self.answer(job)
            if not isinstance(answer, Record):
                summary.num_refused += 1
                events.refused(job, answer)
                continue
            store.put(answer)
            events.finished(answer)
            status = answer.outcome.status
            summary.num_done += status is OutcomeStatus.OK
            summary.num_oom += status is OutcomeStatus.OOM
            summary.num_inferred += answer.outcome.inferred_from is not None
            summary.num_failed += status in {"error", "timeout", "killed"}
        return summary


def with_outcomes(scheduler: Scheduler, **by_length: Outcome) -> None:
    """Lets jobs end by their length, such as `at_512=...`."""
    scheduler.answer = lambda spec: a_record(spec=spec, outcome=by_length.get(f"at_{spec.seq_len}", OK))


OOM = Outcome(status=OutcomeStatus.OOM)
ERROR = Outcome(status=OutcomeStatus.ERROR, message="Traceback\nValueError: no such layer")
