"""What a parent and its worker tell each other: files in a private directory, each written whole.

The worker finds `request.json` and leaves `report.json`, written anew after every phase, so that a job that
is killed has told of every phase it completed; or `refusal.json`, where the job cannot be run as it was asked
for.
"""

from __future__ import annotations

from typing import Literal

from profiler.errors import ConfigError, EnvironmentUnfitError, MachineFaultError, PeakvramError
from profiler.jobs.job import JobSpec
from profiler.jobs.models import ModelSource
from profiler.records.schema import Device
from profiler.values import Value

REQUEST = "request.json"
REPORT = "report.json"
REFUSAL = "refusal.json"
HISTORY = "history.jsonl"
"""What the allocator did, event by event."""
TRACE = "trace.jsonl"
"""The same with the module behind each event, and whose each block is (`profiler.records.trace`)."""
EVENTS = "events.jsonl"
"""The trace without Python lines, which is made in less time."""
SNAPSHOT = "snapshot.pickle"
"""torch's own snapshot of the phase with the trace's highest peak."""
STDERR = "stderr.txt"


_ERRORS: dict[str, type[PeakvramError]] = {
    "config": ConfigError,
    "environment": EnvironmentUnfitError,
    "machine": MachineFaultError,
}


class Request(Value):
    """One job for a worker.

    Attributes:
        spec: the job, its GPU chosen.
        source: its model, resolved.
        device: the card as far as the parent knows it; the worker completes a real one.
        driver: the driver's version; None for a virtual card.
        scratch: an empty directory for the worker's files; the parent removes it, however the job ends.
        notes: what the record is to say besides.
        kept: which files to leave besides: `HISTORY`, `EVENTS` or `TRACE`; with that `SNAPSHOT`.
    """

    spec: JobSpec
    source: ModelSource
    device: Device
    driver: str | None
    scratch: str
    notes: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()


class WorkerRefusal(Value):
    """Why a job was not run: an error its reader can mend."""

    @classmethod
    def of(cls, error: PeakvramError) -> WorkerRefusal:
        """The refusal that an error is told as."""
        kind = next(name for name, known in reversed(_ERRORS.items()) if isinstance(error, known))
        return cls.model_validate({"kind": kind, "message": error.message, "hint": error.hint})

    kind: Literal["config", "environment", "machine"]
    message: str
    hint: str

    def to_error(self) -> PeakvramError:
        """The error to raise in the parent."""
        return _ERRORS[self.kind](self.message, hint=self.hint)
