"""What a sweep is asked, and what it tells while it runs and at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from profiler.records.schema import OutcomeStatus, Record

if TYPE_CHECKING:
    from profiler.errors import PeakvramError
    from profiler.jobs.job import JobSpec

FAILED = frozenset({OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT, OutcomeStatus.KILLED})


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


@dataclass(slots=True, kw_only=True)
class SweepSummary:
    """How many jobs of a sweep have ended, and how: it counts while the sweep goes on."""

    num_done: int = 0
    num_oom: int = 0
    num_inferred: int = 0
    num_failed: int = 0
    num_refused: int = 0
    is_interrupted: bool = False
    is_machine_at_fault: bool = False

    @property
    def num_written(self) -> int:
        """Jobs that have their record."""
        return self.num_done + self.num_oom + self.num_failed

    def add(self, record: Record) -> None:
        """One more job has its record."""
        status = record.outcome.status
        self.num_done += status is OutcomeStatus.OK
        self.num_oom += status is OutcomeStatus.OOM
        self.num_inferred += record.outcome.inferred_from is not None
        self.num_failed += status in FAILED
