"""What a record says, derived from the job, what its process reported and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.jobs.identity import job_key
from profiler.records.schema import (
    GENERATION_PHASES,
    ComponentsAt,
    Outcome,
    Peak,
    PhaseName,
    PhaseReading,
    Record,
    Steady,
    WorkerReport,
    last_step,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from profiler.jobs.job import JobSpec

_STEP_END = PhaseName.ZERO_GRAD


def build_record(
    *, spec: JobSpec, report: WorkerReport | None, outcome: Outcome, created_at: datetime
) -> Record:
    """Puts a record together.

    Args:
        spec: the job, resolved (see `job_key`).
        report: what the process that ran it has written; None where it ended before writing anything.
        outcome: how the job ended, which the process may not have lived to say.
        created_at: when the run began, with its time zone.
    """
    key = job_key(spec)
    if report is None:
        return Record(key=key, spec=spec, created_at=created_at, outcome=outcome)
    phases = report.phases
    at_largest = _phase_to_explain(phases)
    return Record(
        key=key,
        spec=spec,
        created_at=created_at,
        environment=report.environment,
        device=report.device,
        outcome=outcome,
        peak=_peak(phases),
        peak_load=_peak([phase for phase in phases if phase.name is PhaseName.LOAD]),
        peak_step=_peak([p for p in phases if p.step is not None or p.name in GENERATION_PHASES]),
        steady=_steady(phases),
        components=at_largest.components if at_largest else None,
        components_at=ComponentsAt(**at_largest.place._asdict()) if at_largest else None,
        phases=phases,
        parameters=report.parameters,
        managed_bytes=report.managed_bytes,
        value_reads=report.value_reads,
        notes=report.notes,
    )


def _peak(phases: Sequence[PhaseReading]) -> Peak | None:
    if not phases:
        return None
    device_used = [p.device_used_peak_bytes for p in phases if p.device_used_peak_bytes is not None]
    return Peak(
        allocated_bytes=max(phase.allocated_peak_bytes for phase in phases),
        reserved_bytes=max(phase.reserved_peak_bytes for phase in phases),
        device_used_bytes=max(device_used, default=None),
    )


def _steady(phases: Sequence[PhaseReading]) -> Steady | None:
    ends = [phase.allocated_end_bytes for phase in phases if phase.name is _STEP_END and phase.is_complete]
    return Steady(allocated_end_bytes=ends[-1]) if ends else None


def _phase_to_explain(phases: Sequence[PhaseReading]) -> PhaseReading | None:
    """The phase whose end holds most in the last complete step, or of inference; else the last phase.

    Only phases whose components were counted can be explained; of equals the earlier one is taken.
    """
    counted = [phase for phase in phases if phase.components is not None]
    of_last_step = [phase for phase in last_step(phases) if phase.components is not None]
    candidates = of_last_step or [phase for phase in counted if phase.name in GENERATION_PHASES]
    if candidates:
        return max(candidates, key=lambda phase: phase.allocated_end_bytes)
    return counted[-1] if counted else None
