"""What each job of a study should take, and which have their record already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.estimate.best import best_estimates
from profiler.estimate.estimate import Estimate, without_terms
from profiler.estimate.factors import default_factors
from profiler.estimate.miss import Miss, miss_of
from profiler.execute.pending import pending_jobs

if TYPE_CHECKING:
    from profiler.estimate.estimate import Estimated
    from profiler.execute.study import Study
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

_JOBS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """A job of a sweep, its record if it has one, and what it is estimated to take if that was asked."""

    spec: JobSpec
    record: Record | None = None
    estimate: Estimated | None = None

    @property
    def is_contradicted(self) -> bool:
        """Whether the record says that the job fits where its estimate says it does not, or the reverse."""
        if self.record is None or not isinstance(self.estimate, Estimate):
            return False
        return miss_of(self.estimate, self.record) is Miss.VERDICT


def plan_jobs(study: Study) -> list[PlannedJob]:
    """The jobs of a study, those with a record first, each with its estimate."""
    pending = pending_jobs(study.jobs, study.store)
    jobs = [*((record.spec, record) for record in pending.stored), *((spec, None) for spec in pending.todo)]
    factors = default_factors()
    planned: list[PlannedJob] = []
    for start in range(0, len(jobs), _JOBS_AT_ONCE):  # of each no more is kept than is shown
        part = jobs[start : start + _JOBS_AT_ONCE]
        estimates = best_estimates([spec for spec, _ in part], factors=factors)
        planned += [
            PlannedJob(spec=spec, record=record, estimate=without_terms(estimate))
            for (spec, record), estimate in zip(part, estimates, strict=True)
        ]
    return planned
