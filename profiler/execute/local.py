"""Running one job in a fresh process of this machine, and judging how it ended."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError
from profiler.execute.environment import read_environment, worker_variables
from profiler.execute.protocol import REFUSAL, REPORT, REQUEST, STDERR, Refusal, Request, Source, write_whole
from profiler.hardware.catalogue import Gpu
from profiler.hardware.discovery import choose_device
from profiler.hardware.idle import check_idle
from profiler.records.build import build_record
from profiler.records.schema import Device, Outcome, OutcomeStatus, PhaseName, WorkerReport
from profiler.spec.job import Attention
from profiler.spec.models import read_config, resolve_model
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.hardware.discovery import DeviceChoice
    from profiler.records.schema import PhaseReading, Record
    from profiler.spec.job import JobSpec

_POLL_S = 0.05
_STDERR_LINES = 12


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
    _check_attention(spec)
    source = resolve_model(spec.model, weights=spec.weights, revision=spec.revision)
    if source.kind != "hub":
        read_config(source)  # a damaged one is found out before anything is started
    choice = choose_device(spec.gpu, gpu_memory_bytes=spec.gpu_memory_bytes)
    spec = spec.model_copy(
        update={"gpu": choice.gpu.id if isinstance(choice.gpu, Gpu) else _real_name(choice)}
    )
    request = Request(
        spec=spec,
        source=Source(**asdict(source)),
        device=_describe(choice),
        driver=None if isinstance(choice.gpu, Gpu) else choice.gpu.driver,
        notes=_idle_notes(choice, allow_busy=allow_busy),
    )
    created_at = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="peakvram-") as directory:
        ended = _run_worker(Path(directory), request, choice, timeout_s=timeout_s, on_phase=on_phase)
    return build_record(spec=spec, report=ended.report, outcome=ended.outcome, created_at=created_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    report: WorkerReport
    outcome: Outcome


def _check_attention(spec: JobSpec) -> None:
    if spec.attention is Attention.FLASH_ATTENTION_2 and importlib.util.find_spec("flash_attn") is None:
        raise EnvironmentUnfitError(
            "flash_attention_2 needs the flash-attn package, which is not installed",
            hint="pip install flash-attn, or choose --attention sdpa, which runs flash kernels where it can",
        )


def _real_name(choice: DeviceChoice) -> str:
    assert not isinstance(choice.gpu, Gpu)
    return "real" if choice.gpu.index is None else f"real:{choice.gpu.index}"


def _describe(choice: DeviceChoice) -> Device:
    gpu = choice.gpu
    major, minor = gpu.compute_capability
    is_virtual = isinstance(gpu, Gpu)
    return Device(
        kind=choice.kind,
        id=gpu.id if isinstance(gpu, Gpu) else gpu.name.lower().replace(" ", "-"),
        name=gpu.name,
        total_bytes=gpu.total_bytes,
        compute_capability=f"{major}.{minor}",
        num_sms=gpu.num_sms if isinstance(gpu, Gpu) else 0,  # torch tells of a real one
        uuid=None if isinstance(gpu, Gpu) else gpu.uuid,
        context_bytes=gpu.context_bytes if isinstance(gpu, Gpu) else None,
        device_used_source="exact" if is_virtual else "sampled",
        reason=choice.reason,
    )


def _idle_notes(choice: DeviceChoice, *, allow_busy: bool) -> tuple[str, ...]:
    if isinstance(choice.gpu, Gpu):
        return ()
    report = check_idle(choice.gpu, allow_busy=allow_busy)
    others = (
        [f"other processes computed on the card: {', '.join(str(p.pid) for p in report.busy)}"]
        if report.busy
        else []
    )
    return (*others, *report.notes)


def _run_worker(
    directory: Path,
    request: Request,
    choice: DeviceChoice,
    *,
    timeout_s: float | None,
    on_phase: Callable[[PhaseReading], None],
) -> _Ended:
    write_whole(directory / REQUEST, request)
    variables = worker_variables(
        os.environ, alloc_conf=request.spec.alloc_conf, is_virtual=choice.kind == "virtual"
    )
    if isinstance(choice.gpu, Gpu):
        machine_directory = directory / "machine"
        machine_directory.mkdir()
        variables = launch_machine(machine_directory, choice.gpu).environment(variables)
    else:
        variables["CUDA_VISIBLE_DEVICES"] = choice.gpu.uuid
    with (directory / STDERR).open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "profiler.execute.worker", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env=variables,
            start_new_session=True,  # so that whatever it starts can be ended with it
        )
    try:
        is_late = _wait(process, directory, timeout_s=timeout_s, on_phase=on_phase)
    finally:
        _end(process)
    return _judge(directory, request, process.returncode, is_late=is_late, timeout_s=timeout_s)


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
        is_done = process.poll() is not None
        phases = report.phases if (report := _read_report(directory)) is not None else ()
        for reading in phases[num_told:]:
            on_phase(reading)
        num_told = len(phases)
        if is_done:
            return False
        if deadline_s is not None and time.monotonic() > deadline_s:
            return True
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker, if it still runs, with everything it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read_report(directory: Path) -> WorkerReport | None:
    path = directory / REPORT
    return WorkerReport.model_validate_json(path.read_text()) if path.is_file() else None


def _judge(
    directory: Path, request: Request, exit_code: int, *, is_late: bool, timeout_s: float | None
) -> _Ended:
    if (directory / REFUSAL).is_file():
        raise Refusal.model_validate_json((directory / REFUSAL).read_text()).to_error()
    report = _read_report(directory) or WorkerReport(
        device=request.device,
        environment=read_environment(alloc_conf=request.spec.alloc_conf, driver=request.driver),
        notes=request.notes,
    )
    if report.outcome is not None:
        return _Ended(report=report, outcome=report.outcome)
    phase, step = _interrupted_phase(report.phases)
    told = _last_lines(directory / STDERR)
    if is_late:
        message = f"killed after the time limit of {timeout_s:g} s"
        outcome = Outcome(status=OutcomeStatus.TIMEOUT, phase=phase, step=step, message=message)
    elif exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = "; the host may have run out of memory" if -exit_code == signal.SIGKILL else ""
        message = f"the worker was killed by {name}{cause}" + (f": {told}" if told else "")
        outcome = Outcome(
            status=OutcomeStatus.KILLED, phase=phase, step=step, message=message, signal=-exit_code
        )
    else:
        message = told or "the worker ended without a report"
        outcome = Outcome(
            status=OutcomeStatus.ERROR, phase=phase, step=step, message=message, exit_code=exit_code
        )
    return _Ended(report=report, outcome=outcome)


_STEP_PHASES = (PhaseName.FORWARD, PhaseName.BACKWARD, PhaseName.CLIP, PhaseName.STEP, PhaseName.ZERO_GRAD)


def _interrupted_phase(completed: tuple[PhaseReading, ...]) -> tuple[PhaseName | None, int | None]:
    """The phase that a worker which died without a word was in: the one after the last it completed."""
    if not completed:
        return None, None
    last = completed[-1]
    if last.step is None:
        names = list(PhaseName)
        following = names[names.index(last.name) + 1]
        return following, 0 if following in _STEP_PHASES else None
    if last.name is PhaseName.ZERO_GRAD:
        return PhaseName.FORWARD, last.step + 1
    return _STEP_PHASES[_STEP_PHASES.index(last.name) + 1], last.step


def _last_lines(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return "\n".join(lines[-_STDERR_LINES:])
