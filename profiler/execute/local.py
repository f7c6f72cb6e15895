"""Running one job in a fresh process of this machine."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.execute.outcome import WorkerResult, read_report, worker_result
from profiler.execute.prepare import Workplace, prepare_job
from profiler.process.children import call_in_new_python, kill_group
from profiler.process.faults import note_end, num_kills_for_memory
from profiler.process.leases import lease_device
from profiler.process.protocol import STDERR
from profiler.records.build import build_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from profiler.execute.prepare import PreparedJob
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import PhaseReading, Record

_POLL_S = 0.05

WORKER = ("profiler.execute.worker", "run_process")
"""The function that is a worker, by name: its module imports torch, which is not for this process."""


def run_job(
    spec: JobSpec,
    *,
    timeout_s: float | None = None,
    allow_busy: bool = False,
    on_phase: Callable[[PhaseReading], None] = lambda _: None,
) -> Record:
    """Run one job in a process of its own and record how it went, whatever became of it.

    Args:
        spec: the job; `gpu` may be `auto`.
        timeout_s: kill it after so long; None waits for ever.
        allow_busy: measure on a real card that other processes use, and say so in the record.
        on_phase: called with each phase as it completes.

    Raises:
        ConfigError: the job asks for what there is not.
        EnvironmentUnfitError: it cannot run here.
    """
    with lease_device(spec.gpu, gpu_memory_bytes=spec.gpu_memory_bytes, allow_busy=allow_busy) as leased:
        job = prepare_job(spec, leased.choice, allow_busy=allow_busy, notes=leased.notes)
        return run_prepared(job, timeout_s=timeout_s, on_phase=on_phase)


def run_prepared(
    job: PreparedJob,
    *,
    timeout_s: float | None = None,
    on_phase: Callable[[PhaseReading], None] = lambda _: None,
    keep: Mapping[str, Path] = MappingProxyType({}),
) -> Record:
    """Run a job whose model and card are found, and whose card is leased; as `run_job` otherwise.

    Args:
        job: the job.
        timeout_s: kill it after so long; None waits for ever.
        on_phase: called with each phase as it completes.
        keep: where what the worker leaves besides its report goes, as far as it came: `HISTORY`, `EVENTS`,
            `TRACE` or `SNAPSHOT` of `profiler.process.protocol`. What is not asked for costs nothing.

    Raises:
        ConfigError: the job asks for what there is not.
        EnvironmentUnfitError: it cannot run here.
    """
    created_at = datetime.now(UTC)
    with Workplace(replace(job, kept=frozenset(keep))) as place:
        result = _run_worker(place, timeout_s=timeout_s, on_phase=on_phase)
        for name, path in keep.items():
            if (place.directory / name).is_file():
                shutil.copyfile(place.directory / name, path)
    return build_record(spec=job.spec, report=result.report, outcome=result.outcome, created_at=created_at)


def _run_worker(
    place: Workplace, *, timeout_s: float | None, on_phase: Callable[[PhaseReading], None]
) -> WorkerResult:
    num_kills = num_kills_for_memory()
    with (place.directory / STDERR).open("wb") as stderr:
        process = subprocess.Popen(
            call_in_new_python(*WORKER, str(place.directory)),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env=place.variables,
            start_new_session=True,  # so that whatever it starts can be ended with it
        )
    try:
        is_late = _wait(process, place.directory, timeout_s=timeout_s, on_phase=on_phase)
    finally:
        _end(process)
    time_limit_s = timeout_s if is_late else None
    return worker_result(
        place.directory, place.request, process.returncode, time_limit_s=time_limit_s, num_kills=num_kills
    )


def _wait(
    process: subprocess.Popen[bytes],
    directory: Path,
    *,
    timeout_s: float | None,
    on_phase: Callable[[PhaseReading], None],
) -> bool:
    """Wait for the worker and tell of each phase. True if it ran out of time."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    num_told = 0
    while True:
        is_done = note_end(process.pid, directory / STDERR) is not None
        phases = report.phases if (report := read_report(directory)) is not None else ()
        for reading in phases[num_told:]:
            on_phase(reading)
        num_told = len(phases)
        if is_done:
            process.wait()
            return False
        if deadline_s is not None and time.monotonic() > deadline_s:
            return True
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker, if it still runs, with everything it has started."""
    if process.poll() is None:
        kill_group(process.pid)
        process.wait()
