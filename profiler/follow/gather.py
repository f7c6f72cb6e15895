"""What the processes of a command left behind, put together: their reports, and the card's counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError
from profiler.follow.result import CommandResult, CommandStatus, ProcessReport
from profiler.follow.seen import CommandEnd, Sampled
from profiler.follow.untold import (
    figures_after_the_last,
    find_blind,
    find_untold,
    notes_on_blind,
    notes_on_untold,
)
from profiler.process.tested import newer_than_tested
from profiler.virtual.state import (
    StateLayout,
    open_state,
    process_peaks,
    unknown_functions,
    workspaces_left_out,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from profiler.follow.surroundings import Surroundings
    from profiler.records.schema import Device
    from profiler.virtual.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All that is known of a command that has ended."""

    end: CommandEnd
    processes: tuple[ProcessReport, ...]
    device_used_bytes: int | None = None
    managed_bytes: int = 0
    unknown_functions: tuple[str, ...] = ()
    blind_pids: tuple[int, ...] = ()
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
            status=command_status(self.end, self.processes),
            exit_code=self.end.exit_code,
            signal=self.end.signal,
            stop_after=stop_after,
            device_used_bytes=self.device_used_bytes,
            managed_bytes=self.managed_bytes,
            routing=routing,
            processes=self.processes,
            blind_pids=self.blind_pids,
            unknown_functions=self.unknown_functions,
            notes=(*notes, *self.notes),
        )


def gather(around: Surroundings, end: CommandEnd, *, sampled: Sampled) -> Gathered:
    """Read all that the processes of a command left behind.

    Args:
        around: where they ran.
        end: how the command ended.
        sampled: of a real card; a virtual one counts for itself.

    Raises:
        EnvironmentUnfitError: one of them refused to run, as it needs more than one card.
    """
    if (refusal := around.reports / "refusal").is_file():
        raise EnvironmentUnfitError(
            f"{refusal.read_text()}; exec follows one card",
            hint="start one process: --nproc-per-node 1, or --num_processes 1 with accelerate",
        )
    state = None if around.machine is None else open_state(around.machine.state_path)
    sampled = sampled if state is None else _counted(state)
    told = [_completed(report, end, sampled) for report in read_reports(around.reports)]
    if state is not None and state.num_host_refusals:
        told = [_without_full_card(report) for report in told]
    untold = list(find_untold(told, end, sampled, is_shared=state is None))
    processes = in_order([*told, *untold])
    blind_pids = find_blind(end, processes)
    notes = [
        *(path.read_text() for path in sorted(around.reports.glob("*.problem"))),
        *_notes(end, told),
        *notes_on_untold(untold, end, sampled),
        *notes_on_blind(blind_pids),
        *_notes_on_cards(around, processes),
    ]
    if state is None:
        return Gathered(
            end=end,
            processes=processes,
            device_used_bytes=sampled.used_peak_bytes,
            blind_pids=blind_pids,
            notes=tuple(notes),
        )
    if state.num_communicators:
        notes.append(
            f"NCCL ran (communicators: {state.num_communicators}): what each takes of the card's memory, "
            "often hundreds of MiB, is not known and left out"
        )
    if state.num_host_refusals:
        notes.append(
            "this machine had no memory left for what was asked of the virtual card: the card was not full, "
            "whatever the command says; end other processes, or raise the limit (ulimit -v)"
        )
    notes += workspaces_left_out(state)
    return Gathered(
        end=end,
        processes=processes,
        device_used_bytes=sampled.used_peak_bytes,
        managed_bytes=int(state.managed_peak_bytes),
        unknown_functions=unknown_functions(state),
        blind_pids=blind_pids,
        notes=tuple(notes),
    )


def _counted(state: StateLayout) -> Sampled:
    """What a virtual card counted."""
    card = state.devices[0]
    return Sampled(
        used_peak_bytes=int(card.used_peak_bytes),
        process_peaks=process_peaks(state),
        context_bytes=int(card.context_bytes),
        num_refusals=int(card.num_refusals),
    )


def read_reports(directory: Path) -> tuple[ProcessReport, ...]:
    """The processes that used CUDA, the one that reserved most first."""
    paths = [path for path in sorted(directory.glob("*.json")) if not path.name.startswith(".")]
    return in_order(_read_report(path) for path in paths)


def in_order(reports: Iterable[ProcessReport]) -> tuple[ProcessReport, ...]:
    """The process that reserved most first."""
    return tuple(sorted(reports, key=lambda report: -report.reserved_peak_bytes))


def command_status(end: CommandEnd, processes: Sequence[ProcessReport]) -> CommandStatus:
    """How a command ended, in a word; a full card before all else, as it may hide behind any exit code."""
    if end.timeout_s is not None:
        return CommandStatus.TIMEOUT
    if any(p.ran_out_of_memory or (end.exit_code != 0 and _may_have(p)) for p in processes):
        return CommandStatus.OOM
    if end.signal is not None:
        return CommandStatus.KILLED
    if end.exit_code != 0:
        return CommandStatus.ERROR
    if any(p.has_stopped for p in processes):
        return CommandStatus.STOPPED
    return CommandStatus.OK if processes else CommandStatus.UNUSED


def _may_have(report: ProcessReport) -> bool:
    """Whether a process met a full card and then ended for a reason that it did not tell."""
    return report.num_ooms > 0 and (report.ending is None or report.ending.error is None)


def _read_report(path: Path) -> ProcessReport:
    report = ProcessReport.model_validate_json(path.read_text())
    status_path = path.with_suffix(".status")
    status = status_path.read_bytes() if status_path.is_file() else b""
    return report.model_copy(update={"exit_status": status[0]}) if status else report


def _completed(report: ProcessReport, end: CommandEnd, sampled: Sampled) -> ProcessReport:
    """A process's own account, with what only those around it know."""
    known: dict[str, int | None] = {}
    if report.exit_status is None and report.pid == end.pid and end.timeout_s is None:
        known["exit_status"] = end.exit_code
    if report.pid in sampled.process_peaks:
        known["device_used_bytes"] = max(sampled.process_peaks[report.pid], report.device_used_bytes or 0)
        known |= figures_after_the_last(report, sampled)
    return report.model_copy(update=known)


def _without_full_card(report: ProcessReport) -> ProcessReport:
    """A process's own account, where what it took for a full card was this machine."""
    ending = None if report.ending is None else report.ending.model_copy(update={"is_out_of_memory": False})
    return report.model_copy(update={"ending": ending, "num_ooms": 0, "out_of_memory": None})


def _notes_on_cards(around: Surroundings, processes: Sequence[ProcessReport]) -> Iterator[str]:
    """What a command did that chose among cards itself."""
    if not processes:
        for value in sorted({path.read_text() for path in around.reports.glob("*.visible")}):
            yield (
                f"the command set CUDA_VISIBLE_DEVICES to {value!r}, which may have hidden the card: "
                "the one there is has number 0"
            )
    for report in processes:
        if around.uuid is not None and report.device_uuid and _differ(around.uuid, report.device_uuid):
            yield (
                f"process {report.pid} used another card than the sampled one, {report.device_uuid}: "
                "does it set CUDA_VISIBLE_DEVICES? Name that card with --gpu"
            )


def _differ(uuid: str, other: str) -> bool:
    # torch leaves the first part out; of a MIG slice it may tell the card's.
    return uuid.startswith("GPU-") and uuid.removeprefix("GPU-") != other.removeprefix("GPU-")


def _notes(end: CommandEnd, processes: Sequence[ProcessReport]) -> Iterator[str]:
    if end.timeout_s is not None:
        yield f"ended after the time limit of {end.timeout_s:g} s"
    if end.num_left:
        yield f"{end.num_left} processes outlived the command and were ended"
    yield from dict.fromkeys(note for report in processes for note in newer_than_tested(report.versions))
    for report in processes:
        if report.num_ooms and not report.ran_out_of_memory and end.exit_code == 0:
            yield f"process {report.pid} ran out of memory {report.num_ooms} times and went on"
        if report.ending is None and report.allocated_peak_bytes is None:
            yield (
                f"process {report.pid} was killed before it told what it took: what it allocated is not "
                "known, reserved is all that the card counted of it"
            )
        elif report.ending is None:
            yield f"process {report.pid} did not say how it ended: its figures are those of its last mark"
