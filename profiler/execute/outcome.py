"""How a worker ended: from what it left behind and its exit code to an outcome."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from profiler.errors import MachineFaultError
from profiler.jobs.job import Inference
from profiler.process.environment import read_environment, worker_variables
from profiler.process.faults import FAULT_EXIT_CODE, fault_in_words, num_kills_for_memory
from profiler.process.protocol import REFUSAL, REPORT, STDERR, Request, WorkerRefusal
from profiler.records.schema import (
    GENERATION_PHASES,
    Outcome,
    OutcomeStatus,
    PhaseName,
    PhasePlace,
    WorkerReport,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiler.jobs.job import JobSpec
    from profiler.records.schema import PhaseReading

_STDERR_LINES = 12
_CRASHES = (-signal.SIGABRT, -signal.SIGSEGV)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """What a worker found, and how it ended."""

    report: WorkerReport
    outcome: Outcome


def read_report(directory: Path) -> WorkerReport | None:
    """What the worker has found so far; None before its first phase."""
    path = directory / REPORT
    return WorkerReport.model_validate_json(path.read_text()) if path.is_file() else None


def worker_result(
    directory: Path,
    request: Request,
    exit_code: int,
    *,
    time_limit_s: float | None = None,
    num_kills: int | None = None,
) -> WorkerResult:
    """How the worker in `directory` ended.

    Args:
        directory: where it left its report.
        request: what it was asked.
        exit_code: its own; negative for a signal.
        time_limit_s: the limit it was killed at, if it was.
        num_kills: `num_kills_for_memory` before it was started; None where that was not told.

    Raises:
        ConfigError: it refused the job as it was asked for.
        MachineFaultError: this machine failed while the job ran, which says nothing about the job.
        EnvironmentUnfitError: it cannot run such a job here.
    """
    if (directory / REFUSAL).is_file():
        raise WorkerRefusal.model_validate_json((directory / REFUSAL).read_text()).to_error()
    report = read_report(directory) or _empty_report(request)
    if report.outcome is not None:
        return WorkerResult(report=report, outcome=report.outcome)
    if time_limit_s is None:
        _refuse_fault(directory, exit_code, num_kills=num_kills)
    interrupted = _interrupted_phase(report.phases, request.spec)
    return WorkerResult(report=report, outcome=_guess(directory, interrupted, exit_code, time_limit_s))


def _refuse_fault(directory: Path, exit_code: int, *, num_kills: int | None) -> None:
    """Raises what is wrong with this machine, as far as the end of a worker without a report tells of it."""
    if exit_code == FAULT_EXIT_CODE:
        told = "there was no room for its files", "free some room in shared memory, or set TMPDIR"
    elif exit_code == -signal.SIGBUS:
        told = "SIGBUS ended it: no room in shared memory, or a disk failed", "`df /dev/shm` shows the room"
    elif exit_code == -signal.SIGKILL and num_kills is not None and (num_kills_for_memory() or 0) > num_kills:
        told = "the kernel killed it for the host's memory", "end other processes, or run fewer --workers"
    elif exit_code in _CRASHES and (fault := fault_in_words(_words(directory / STDERR))):
        told = fault  # what C++ throws and nobody catches
    else:
        return
    raise MachineFaultError(f"the job could not be run: {told[0]}", hint=told[1])


def _empty_report(request: Request) -> WorkerReport:
    """What is known of a worker that ended before its first phase: its surroundings."""
    alloc_conf, is_virtual = request.spec.alloc_conf, request.device.kind == "virtual"
    variables = worker_variables(os.environ, alloc_conf=alloc_conf, is_virtual=is_virtual)
    return WorkerReport(
        device=request.device,
        environment=read_environment(alloc_conf=alloc_conf, driver=request.driver, variables=variables),
        notes=request.notes,
    )


def _guess(
    directory: Path, interrupted: PhasePlace | None, exit_code: int, time_limit_s: float | None
) -> Outcome:
    """The outcome of a worker that died before it could say."""
    place = {} if interrupted is None else interrupted._asdict()
    last_words = _last_words(directory / STDERR)
    if time_limit_s is not None:
        message = f"killed after the time limit of {time_limit_s:g} s"
        return Outcome(**place, status=OutcomeStatus.TIMEOUT, message=message)
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = "; the host may have run out of memory" if -exit_code == signal.SIGKILL else ""
        message = f"the worker was killed by {name}{cause}" + (f": {last_words}" if last_words else "")
        return Outcome(**place, status=OutcomeStatus.KILLED, message=message, signal=-exit_code)
    message = last_words or "the worker ended without a report"
    return Outcome(**place, status=OutcomeStatus.ERROR, message=message, exit_code=exit_code)


def _interrupted_phase(completed: tuple[PhaseReading, ...], spec: JobSpec) -> PhasePlace | None:
    """The phase that a worker which died without a word was in: the one after the last it completed."""
    if not completed or not completed[-1].is_complete:
        return completed[-1].place if completed else None
    last = completed[-1].place
    return next((place for before, place in pairwise(_places(spec)) if before == last), None)


def _places(spec: JobSpec) -> Iterator[PhasePlace]:
    """Every phase of a job, in order."""
    if isinstance(spec.method, Inference):
        yield from map(PhasePlace, (PhaseName.CONTEXT, PhaseName.LOAD, *GENERATION_PHASES))
        return
    names = list(PhaseName)
    yield from map(PhasePlace, names[: names.index(PhaseName.FORWARD)])
    for step in range(spec.steps):
        for micro_step in range(spec.accumulation) if spec.accumulation > 1 else [None]:
            yield PhasePlace(PhaseName.FORWARD, step, micro_step)
            yield PhasePlace(PhaseName.BACKWARD, step, micro_step)
        for name in (PhaseName.CLIP, PhaseName.STEP, PhaseName.ZERO_GRAD):
            yield PhasePlace(name, step)
    if spec.eval_batches:
        yield PhasePlace(PhaseName.EVALUATE)
    if spec.save:
        yield PhasePlace(PhaseName.SAVE)


def _words(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _last_words(path: Path) -> str:
    """What the worker said last: where it was when it crashed, or else the end of what it wrote."""
    lines = _words(path).strip().splitlines()
    crashes = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    return "\n".join(lines[crashes[-1] :][:_STDERR_LINES] if crashes else lines[-_STDERR_LINES:])
