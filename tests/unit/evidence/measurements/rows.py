"""Small published rows and records for tests of the comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.evidence.measurements.environments import LibrarySet
from profiler.evidence.measurements.figures import RecordFigure
from profiler.evidence.measurements.mapping import MappedRow
from profiler.evidence.measurements.published import Grade, Measurement, Metric
from profiler.records.build import build_record
from profiler.records.schema import PhaseName, Record, WorkerReport
from profiler.units import MIB
from tests.builders import AT, OK, a_device, a_job, a_phase, an_environment

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.jobs.job import JobSpec


def a_measurement(row: str = "some-001", **changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "id": row,
        "repository": "github.com/someone/somewhere",
        "path": "results.csv",
        "commit": "abc1234",
        "model": "meta-llama/Llama-3.1-8B",
        "gpu": "RTX 4090",
        "metric": Metric.MAX_ALLOCATED,
        "value_bytes": 1_000_000,
        "value_text": "1000000 bytes",
        "grade": Grade.A,
        "versions": "torch 2.4.1",
        "notes": "",
        "settings": {},
    }
    return Measurement(**values | changes)


def a_row(row: str = "some-001", **changes: Any) -> MappedRow:
    values: dict[str, Any] = {
        "measurement": a_measurement(row),
        "job": a_job(),
        "figure": RecordFigure.STEP_PEAK_ALLOCATED,
        "environment": "",
        "differs": ("a note",),
        "because": "",
        "because_current": "",
    }
    return MappedRow(**values | changes)


def a_library_set(path: Path, *, name: str = "old", torch: str = "2.4.1") -> LibrarySet:
    return LibrarySet(name=name, path=path, versions={"torch": torch})


def a_trained_record(
    spec: JobSpec | None = None,
    *,
    peak_bytes: int,
    end_bytes: int,
    torch: str = "2.14.1+cu130",
    kind: str = "virtual",
) -> Record:
    """A record of two steps that peak in the forward pass."""
    phases = [a_phase(PhaseName.CONTEXT, end=0), a_phase(PhaseName.LOAD, end=end_bytes)]
    for step in (0, 1):
        phases.append(a_phase(PhaseName.FORWARD, step, end=end_bytes, peak=peak_bytes))
        phases.append(a_phase(PhaseName.ZERO_GRAD, step, end=end_bytes))
    report = WorkerReport(
        environment=an_environment(torch=torch),
        device=a_device(kind=kind, context_bytes=426 * MIB),
        phases=tuple(phases),
    )
    return build_record(spec=spec or a_job(), report=report, outcome=OK, created_at=AT)
