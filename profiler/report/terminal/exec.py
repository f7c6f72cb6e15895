"""What a followed command looks like on a terminal: whether it fits, where its peak was, what to doubt."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING, assert_never

from rich.text import Text

from profiler.follow.result import CommandResult, CommandStatus, PartEnd, ProcessReport
from profiler.report.base.describe import VIRTUAL_CARD, managed_text
from profiler.report.base.text import UNKNOWN, left, literal, right, show_blocks, size, titled_table
from profiler.report.base.verdict import device_label
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rich.console import Console, Group

_PARTS = {
    "setup": "before the first forward pass",
    "forward": "forward",
    "backward": "backward",
    "clip": "between backward and step",
    "step": "optimizer step",
    "rest": "the rest, to the end",
}
_NUM_OTHER_SITES = 3
"""So many lines are shown of reads that are losses as a rule; the result has more."""
_STYLES = {
    CommandStatus.OK: "bold green",
    CommandStatus.STOPPED: "bold green",
    CommandStatus.OOM: "bold yellow",
    CommandStatus.UNUSED: "bold yellow",
}
_UNCERTAIN = "bold yellow"


def show_command(console: Console, result: CommandResult, *, path: Path | None = None) -> None:
    """Prints a followed command: its card, its parts, the verdict, what to doubt, and what was written."""
    largest = result.largest
    show_blocks(
        console,
        _heading(result),
        marks_table(largest) if largest is not None and largest.marks else (),
        processes_table(result) if len(result.processes) > 1 else (),
        [*_closing(result), *([literal(f"Wrote {path}")] if path is not None else [])],
    )


def marks_table(report: ProcessReport) -> Group:
    """One row a part of the script: what was allocated at its end, and the peaks until then."""
    rows = (
        [
            _PARTS[mark.part],
            "" if mark.part in ("setup", "rest") else str(mark.step),
            size(mark.allocated_bytes),
            size(mark.allocated_peak_bytes),
            size(mark.reserved_peak_bytes),
        ]
        for mark in report.marks
    )
    sizes = right("step", "allocated", "peak allocated so far", "peak reserved so far")
    return titled_table("Parts of the script", left("part") | sizes, rows)


def processes_table(result: CommandResult) -> Group:
    """One row a process that used CUDA."""
    rows = (
        [
            f"{report.pid} {shlex.join(report.command)}"[:60],
            str(report.num_steps),
            size(report.allocated_peak_bytes),
            size(report.reserved_peak_bytes),
            size(report.device_used_bytes),
            UNKNOWN if report.exit_status is None else str(report.exit_status),
        ]
        for report in result.processes
    )
    figures = right("steps", "peak allocated", "peak reserved", "peak device", "exit status")
    return titled_table("Processes that used CUDA", left("process") | figures, rows)


def command_verdict(result: CommandResult) -> str:
    """One line: the peaks, and whether the command fits or how it ended."""
    return ": ".join(part for part in (_peaks(result), _ending(result)) if part)


def _heading(result: CommandResult) -> Iterator[Text]:
    yield literal(shlex.join(result.command), "bold")
    device = result.device
    yield literal(f"{device_label(device)} ({device.id}), {format_bytes(device.total_bytes)}")
    yield literal(f"chosen because: {device.reason}")
    if device.kind == "virtual":
        yield Text(VIRTUAL_CARD, style="bold magenta")
    elif device.device_used_source == "sampled":
        yield Text("the device's figure was sampled every 10 ms: a shorter peak may be missing")


def _peaks(result: CommandResult) -> str:
    if result.largest is None:
        return ""
    return (
        f"peak allocated {size(result.largest.allocated_peak_bytes)}, "
        f"reserved {size(result.largest.reserved_peak_bytes)}, "
        f"device {size(result.device_used_bytes)} "
        f"of {format_bytes(result.device.total_bytes)} ({device_label(result.device)})"
    )


def _ending(result: CommandResult) -> str:  # noqa: PLR0911 - one a case
    match result.status:
        case CommandStatus.OK:
            return _fit(result)
        case CommandStatus.STOPPED:
            return f"{_fit(result)}, stopped after {result.stop_after} optimizer steps as asked"
        case CommandStatus.OOM:
            return _out_of_memory(result)
        case CommandStatus.ERROR:
            return f"the command failed with exit code {result.exit_code}{_last_part(result)}"
        case CommandStatus.KILLED:
            return f"the command was ended by {_signal_name(result)}{_last_part(result)}"
        case CommandStatus.TIMEOUT:
            return f"stopped at the time limit{_last_part(result)}"
        case CommandStatus.UNUSED:
            return _unused(result)
        case _:
            assert_never(result.status)


def _signal_name(result: CommandResult) -> str:
    number = result.signal or 0
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _fit(result: CommandResult) -> str:
    if result.device_used_bytes is None:
        return f"{_met(result)}it ran to its end"
    free = f"{format_bytes(max(result.device.total_bytes - result.device_used_bytes, 0))} free"
    if not result.is_known:
        return f"{_met(result)}it ran to its end, {free}, but not all that it took is known"
    return f"{met}what fits: {free}" if (met := _met(result)) else f"fits, {free}"


def _met(result: CommandResult) -> str:
    """Where it ran out of memory and went on, if it did."""
    met = [report for report in result.processes if report.num_ooms]
    if not met:
        return ""
    return f"ran out of memory{_request(met)} and went on; "


def _unused(result: CommandResult) -> str:
    if result.blind_pids:
        pids = ", ".join(map(str, result.blind_pids))
        return f"nothing used the card, which process {pids} was not shown: of its memory nothing is known"
    return "the command never used CUDA, so there is nothing to tell of its memory"


def _out_of_memory(result: CommandResult) -> str:
    return f"does not fit, out of memory{_request(result.processes)}".removesuffix(",")


def _request(processes: Iterable[ProcessReport]) -> str:
    """The last request that the card could not meet, and where it came from."""
    failed = next((report.out_of_memory for report in processes if report.out_of_memory is not None), None)
    if failed is None:
        return ""
    where = f" at {failed.line}" if failed.line else ""
    return f"{where}, asking for {format_bytes(failed.requested_bytes)} more,"


def _last_part(result: CommandResult) -> str:
    if result.largest is None:
        return ""
    parts = [mark for mark in result.largest.marks if mark.part != "rest"]
    if not parts:
        return ", before its first forward pass"
    return f"; the last that was seen of it is the end of: {_label(parts[-1])}"


def _label(mark: PartEnd) -> str:
    part = _PARTS[mark.part]
    return part if mark.part in ("setup", "rest") else f"{part}, step {mark.step}"


def _closing(result: CommandResult) -> Iterator[Text]:
    yield literal(command_verdict(result), _style(result))
    largest = result.largest
    if largest is not None and largest.peak_mark is not None:
        yield literal(f"most was allocated in: {_label(largest.peak_mark)}")
    for report in result.processes:
        if report.ending is not None and report.ending.error is not None:
            whose = f"process {report.pid}: " if len(result.processes) > 1 else ""
            yield literal(f"{whose}{report.ending.error}")
        if report.num_alloc_retries and not report.ran_out_of_memory:
            times = _times(report.num_alloc_retries, "time")
            yield literal(f"the allocator emptied its cache and asked again {times}: it is a squeeze")
    if result.status is CommandStatus.OOM and result.device.kind == "virtual":
        yield Text(
            "its need is more than these figures; to learn it, give the virtual card more: --gpu-memory 2TiB"
        )
    if result.managed_bytes:
        yield Text(managed_text(result.managed_bytes))
    yield from _doubts(result)
    for note in result.notes:
        yield literal(f"note: {note}")


def _style(result: CommandResult) -> str:
    style = _STYLES.get(result.status, "bold red")
    is_certain = result.is_known and not any(report.num_ooms for report in result.processes)
    return style if is_certain or style == "bold red" else _UNCERTAIN


def _doubts(result: CommandResult) -> Iterator[Text]:
    """What the figures rest on that a virtual card cannot know."""
    for report in result.processes:
        reads = report.reads
        if reads is None:
            continue
        if reads.decisions:
            yield literal(
                f"{_times(reads.decisions, 'read')} this result depends on: values that a virtual card "
                "cannot know, taken as 0 or False"
            )
            yield from (literal(f"  {site}") for site in reads.decision_sites)
        if reads.others:
            yield literal(
                f"{_times(reads.others, 'other read')} answered with 0: losses, norms and data as a rule; "
                "a size or a branch that the script makes of one is wrong"
            )
            yield from (literal(f"  {site}") for site in reads.other_sites[:_NUM_OTHER_SITES])
            if (num_more := len(reads.other_sites) - _NUM_OTHER_SITES) > 0:
                yield literal(f"  and at {_times(num_more, 'more line')}")
        if reads.assumed:
            how = "evenly over its experts" if result.routing == "even" else "all to the same experts"
            yield literal(
                f"{_times(reads.assumed, 'answer')} assumed of unknown values: a check that may raise an "
                f"error is passed, a router sends tokens {how}, a next token never ends its text"
            )
            yield from (literal(f"  {site}") for site in reads.assumed_sites)
        if reads.inexact:
            names = ", ".join(reads.inexact)
            yield literal(f"operations without the temporary buffers that they take on a real card: {names}")
    if result.unknown_functions:
        names = ", ".join(result.unknown_functions)
        yield literal(f"the virtual GPU does not implement these functions, which answered an error: {names}")
    if "cudaStreamBeginCapture" in result.unknown_functions:
        yield Text("that is a CUDA graph; torch.compile captures none without mode='reduce-overhead'")


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
