"""What the processes of a command left behind, put together: their reports, and the card's counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError
from profiler.follow.result import CommandResult, CommandStatus, ProcessReport
from profiler.virtual.state import open_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from profiler.follow.surroundings import Surroundings
    from profiler.records.schema import Device
    from profiler.virtual.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_code: its own; 128 and the signal's number; 124 at the time limit.
        signal: what killed it.
        timeout_s: the time limit it was ended at, if it was.
        num_left: processes that outlived it and were ended.
    """

    exit_code: int
    signal: int | None = None
    timeout_s: float | None = None
    num_left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that is known of a command that has ended."""

    ended: Ended
    processes: tuple[ProcessReport, ...]
    device_used_bytes: int | None = None
    managed_bytes: int = 0
    unknown_functions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_result(  # noqa: PLR0913 - what the caller knows
        self,
        *,
        command: tuple[str, ...],
        created_at: datetime,
        device: Device,
        stop_after: int | None = None,
        routing: Routing | None = None,
        notes: tuple[str, ...] = (),
    ) -> CommandResult:
        """The result, with what the caller knows of the command."""
        return CommandResult(
            command=command,
            created_at=created_at,
            device=device,
            status=judge(self.ended, self.processes),
            exit_code=self.ended.exit_code,
            signal=self.ended.signal,
            stop_after=stop_after,
            device_used_bytes=self.device_used_bytes,
            managed_bytes=self.managed_bytes,
            routing=routing,
            processes=self.processes,
            unknown_functions=self.unknown_functions,
            notes=(*notes, *self.notes),
        )


def gather(around: Surroundings, ended: Ended, *, used_peak_bytes: int | None) -> Found:
    """Read all that the processes of a command left behind.

    Args:
        around: where they ran.
        ended: how the command ended.
        used_peak_bytes: of a real card, as sampled.

    Raises:
        EnvironmentUnfitError: one of them refused to run, as it needs more than one card.
    """
    if (refusal := around.reports / "refusal").is_file():
        raise EnvironmentUnfitError(
            f"{refusal.read_text()}; exec follows one card",
            hint="start one process: --nproc-per-node 1, or --num_processes 1 with accelerate",
        )
    processes = read_reports(around.reports)
    notes = [*_problems(around.reports), *_notes(ended, processes)]
    if around.machine is None:
        return Found(ended=ended, processes=processes, device_used_bytes=used_peak_bytes, notes=tuple(notes))
    state = open_state(around.machine.state_path)
    if state.devices[0].num_allocations and not processes:
        notes.append(
            "something used the card that could not be followed: no Python, or one started with -I, -E or -S"
        )
    if state.cudnn_calls:
        notes.append(
            "cuDNN ran: which workspace it would take of the card's memory is not known and left out"
        )
    return Found(
        ended=ended,
        processes=processes,
        device_used_bytes=int(state.devices[0].used_peak_bytes),
        managed_bytes=int(state.managed_peak_bytes),
        unknown_functions=tuple(state.unknown[i].value.decode() for i in range(state.num_unknown)),
        notes=tuple(notes),
    )


def read_reports(directory: Path) -> tuple[ProcessReport, ...]:
    """The processes that used CUDA, the one that reserved most first."""
    reports = [
        ProcessReport.model_validate_json(path.read_text())
        for path in sorted(directory.glob("*.json"))
        if not path.name.startswith(".")
    ]
    return tuple(sorted(reports, key=lambda report: -report.reserved_peak_bytes))


def judge(ended: Ended, processes: Sequence[ProcessReport]) -> CommandStatus:
    """How a command ended, in a word; a full card before all else, as it may hide behind any exit code."""
    if ended.timeout_s is not None:
        return CommandStatus.TIMEOUT
    if any(p.ran_out_of_memory or (ended.exit_code != 0 and p.num_ooms) for p in processes):
        return CommandStatus.OOM
    if ended.signal is not None:
        return CommandStatus.KILLED
    if ended.exit_code != 0:
        return CommandStatus.ERROR
    if any(p.has_stopped for p in processes):
        return CommandStatus.STOPPED
    return CommandStatus.OK if processes else CommandStatus.UNUSED


def _problems(directory: Path) -> Iterator[str]:
    for path in sorted(directory.glob("*.problem")):
        yield path.read_text()


def _notes(ended: Ended, processes: Sequence[ProcessReport]) -> Iterator[str]:
    if ended.timeout_s is not None:
        yield f"ended after the time limit of {ended.timeout_s:g} s"
    if ended.num_left:
        yield f"{ended.num_left} processes outlived the command and were ended"
    for report in processes:
        if report.num_ooms and not report.ran_out_of_memory and ended.exit_code == 0:
            yield f"process {report.pid} ran out of memory {report.num_ooms} times and went on"
        if report.ending is None:
            yield f"process {report.pid} did not say how it ended: its figures are those of its last mark"
