"""Running a job so that it can be explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.execute.local import run_prepared
from profiler.execute.prepare import prepare_job
from profiler.explain.explanation import explain_trace
from profiler.explain.settings import find_better_settings
from profiler.explain.timeline import make_timelines
from profiler.process.leases import lease_device
from profiler.process.protocol import SNAPSHOT, TRACE
from profiler.process.scratch import ScratchDirectory
from profiler.records.trace import read_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from profiler.explain.explanation import Explanation
    from profiler.explain.settings import BetterSettings
    from profiler.explain.timeline import Timeline
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import PhaseReading, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedRun:
    """A run, and what it says.

    Attributes:
        record: as any run leaves it; its times are those of a run that was watched.
        explanation: None where nothing was allocated before it ended.
        moment: the event it explains.
        timelines: the whole run first, then parts of it; none where there is no explanation.
        settings: of the allocator, under which its requests would have reserved less; None where none would.
    """

    record: Record
    explanation: Explanation | None
    moment: int = 0
    timelines: tuple[Timeline, ...] = ()
    settings: BetterSettings | None = None


def run_explained(
    spec: JobSpec,
    *,
    timeout_s: float | None = None,
    allow_busy: bool = False,
    on_phase: Callable[[PhaseReading], None] = lambda _: None,
    snapshot_path: Path | None = None,
) -> ExplainedRun:
    """Runs a job with the allocator's history on, and explains it.

    Args:
        spec: the job; `gpu` may be `auto`.
        timeout_s: kill it after so long; None waits for ever.
        allow_busy: use a real card that other processes use.
        on_phase: called with each phase as it completes.
        snapshot_path: receives torch's own snapshot of the phase with the peak; None for none.

    Raises:
        ConfigError: the job asks for what there is not.
        EnvironmentUnfitError: it cannot run here.
    """
    with (
        lease_device(spec.gpu, gpu_memory_bytes=spec.gpu_memory_bytes, allow_busy=allow_busy) as leased,
        ScratchDirectory("explain") as scratch,
    ):
        job = prepare_job(spec, leased.choice, allow_busy=allow_busy, notes=leased.notes)
        path = scratch.path / "trace.jsonl"
        keep = {TRACE: path} | ({SNAPSHOT: snapshot_path} if snapshot_path else {})
        record = run_prepared(job, timeout_s=timeout_s, on_phase=on_phase, keep=keep)
        trace = read_trace(path) if path.is_file() else None
    found = explain_trace(trace, record) if trace else None
    if trace is None or found is None:
        return ExplainedRun(record=record, explanation=None)
    explanation, moment, run, owners = found
    timelines = make_timelines(run, owners, moment=moment.event)
    return ExplainedRun(
        record=record,
        explanation=explanation,
        moment=moment.event,
        timelines=timelines,
        settings=find_better_settings(trace, record),
    )
