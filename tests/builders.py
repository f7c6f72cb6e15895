"""Small values for tests: each has every field it needs, and takes what a test cares about."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.jobs.job import JobSpec
from profiler.records.build import build_record
from profiler.records.schema import (
    Components,
    Device,
    Environment,
    Outcome,
    OutcomeStatus,
    Parameters,
    PhaseName,
    PhaseReading,
    Record,
    WorkerReport,
)
from profiler.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
OK = Outcome(status=OutcomeStatus.OK)
AT = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


@contextmanager
def no_room(limit_bytes: int) -> Iterator[None]:
    """A real limit on the size of files, as a full disk is; nothing else may write within, pytest neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def a_job(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({"model": "llama-3.1-8b", "gpu": "rtx-4090", **changes})


def a_phase(
    name: PhaseName, step: int | None = None, *, end: int = GIB, peak: int | None = None, **changes: Any
) -> PhaseReading:
    """A phase that ends with `end` bytes allocated and peaks at `peak`; reserved comes in blocks of 2 MiB."""
    top = end if peak is None else peak
    reserved = -(-top // (2 * MIB)) * 2 * MIB
    values: dict[str, Any] = {
        "name": name,
        "step": step,
        "allocated_start_bytes": 0,
        "allocated_end_bytes": end,
        "allocated_peak_bytes": top,
        "reserved_end_bytes": reserved,
        "reserved_peak_bytes": reserved,
        "device_used_peak_bytes": reserved + 426 * MIB,
        "components": Components(weights_bytes=end),
    }
    return PhaseReading.model_validate(values | changes)


def a_device(**changes: Any) -> Device:
    values: dict[str, Any] = {
        "kind": "virtual",
        "id": "rtx-4090",
        "name": "NVIDIA GeForce RTX 4090",
        "total_bytes": 25_250_627_584,
        "compute_capability": "8.9",
        "num_sms": 128,
        "context_bytes": 426 * MIB,
        "device_used_source": "exact",
        "reason": "asked for by name",
    }
    return Device.model_validate(values | changes)


def a_real_device(**changes: Any) -> Device:
    values: dict[str, Any] = {
        "kind": "real",
        "id": "nvidia-a100-sxm4-80gb",
        "name": "NVIDIA A100-SXM4-80GB",
        "total_bytes": 85_100_000_000,
        "compute_capability": "8.0",
        "num_sms": 108,
        "uuid": "GPU-00000000-0000-0000-0000-000000000000",
        "device_used_source": "sampled",
        "reason": "auto: the first real GPU that is idle",
    }
    return a_device(**(values | changes))


def an_environment(**changes: Any) -> Environment:
    values: dict[str, Any] = {"peakvram": "0.1.0", "python": "3.11.2", "platform": "Linux", "torch": "2.14.1"}
    return Environment.model_validate(values | changes)


def a_run() -> tuple[PhaseReading, ...]:
    """The phases of a job of two steps; step 1 ends its forward pass with most."""
    return (
        a_phase(PhaseName.CONTEXT, end=0),
        a_phase(PhaseName.LOAD, end=5 * GIB, peak=6 * GIB),
        a_phase(PhaseName.OPTIMIZER, end=5 * GIB),
        a_phase(PhaseName.FORWARD, 0, end=7 * GIB, peak=8 * GIB),
        a_phase(PhaseName.BACKWARD, 0, end=6 * GIB, peak=9 * GIB),
        a_phase(PhaseName.STEP, 0, end=7 * GIB, peak=7 * GIB),
        a_phase(PhaseName.ZERO_GRAD, 0, end=6 * GIB, peak=7 * GIB),
        a_phase(
            PhaseName.FORWARD,
            1,
            end=8 * GIB,
            peak=9 * GIB,
            components=Components(
                weights_bytes=5 * GIB, optimizer_bytes=GIB, activations_bytes=GIB, other_bytes=GIB
            ),
        ),
        a_phase(PhaseName.BACKWARD, 1, end=7 * GIB, peak=10 * GIB),
        a_phase(PhaseName.STEP, 1, end=7 * GIB, peak=7 * GIB),
        a_phase(PhaseName.ZERO_GRAD, 1, end=6 * GIB, peak=7 * GIB),
    )


def a_report(phases: tuple[PhaseReading, ...] | None = None, **changes: Any) -> WorkerReport:
    values: dict[str, Any] = {
        "device": a_device(),
        "environment": an_environment(),
        "parameters": Parameters(total=8_030_261_248, trainable=41_943_040),
        "phases": a_run() if phases is None else phases,
    }
    return WorkerReport.model_validate(values | changes)


def a_record(
    *, spec: JobSpec | None = None, report: WorkerReport | None = None, outcome: Outcome = OK
) -> Record:
    """A record of a job that went well; a report of None is the default one (see `build_record` for none)."""
    return build_record(spec=spec or a_job(), report=report or a_report(), outcome=outcome, created_at=AT)
