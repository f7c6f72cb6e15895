"""What a command's processes took of the card and did not tell: from the card's own counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.follow.result import ProcessReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.follow.seen import CommandEnd, Sampled


def find_untold(
    told: Sequence[ProcessReport], end: CommandEnd, sampled: Sampled, *, is_shared: bool
) -> Iterator[ProcessReport]:
    """A report for each process that the card knows and that left none.

    Args:
        told: the reports that there are.
        end: how the command ended, and what it had started.
        sampled: what the card counted.
        is_shared: whether others than the command's processes may use the card.
    """
    known = {report.pid for report in told}
    num_refusals = num_refusals_untold(told, sampled)
    for pid, peak_bytes in sampled.process_peaks.items():
        if not peak_bytes or pid in known or (is_shared and pid not in end.started):
            continue
        yield ProcessReport(
            pid=pid,
            command=end.started[pid].command if pid in end.started else (),
            versions={},
            allocated_bytes=None,
            reserved_bytes=None,
            allocated_peak_bytes=None,
            reserved_peak_bytes=_held(peak_bytes, sampled),
            num_alloc_retries=0,
            # An allocator may meet a refusal and go on; that a command then failed is all that is known.
            num_ooms=num_refusals if end.exit_code else 0,
            device_used_bytes=peak_bytes,
            num_steps=0,
            exit_status=end.exit_code if pid == end.pid and end.timeout_s is None else None,
        )


def num_refusals_untold(told: Sequence[ProcessReport], sampled: Sampled) -> int:
    """Allocations that the card refused, unless a process that told met a full card itself."""
    have_met = any(report.num_ooms or report.num_alloc_retries for report in told)
    return 0 if have_met else sampled.num_refusals


def figures_after_the_last(report: ProcessReport, sampled: Sampled) -> dict[str, int | None]:
    """The figures of a process that was killed and took more of the card after it last told; else none."""
    if report.ending is not None or report.pid not in sampled.process_peaks:
        return {}
    peak_bytes = sampled.process_peaks[report.pid]
    if report.marks and peak_bytes <= (report.device_used_bytes or peak_bytes):
        return {}
    reserved_bytes = max(_held(peak_bytes, sampled), report.reserved_peak_bytes)
    unknown = dict.fromkeys(("allocated_bytes", "reserved_bytes", "allocated_peak_bytes"))
    return {**unknown, "reserved_peak_bytes": reserved_bytes}


def find_blind(end: CommandEnd, processes: Sequence[ProcessReport]) -> tuple[int, ...]:
    """The processes that would have used a card and were not shown this one."""
    using = {report.pid for report in processes}
    return tuple(pid for pid, started in end.started.items() if started.is_blind and pid not in using)


def notes_on_untold(untold: Sequence[ProcessReport], end: CommandEnd, sampled: Sampled) -> Iterator[str]:
    """What to doubt of their figures."""
    for report in untold:
        yield (
            f"process {report.pid} used the card and was not followed (no Python, one with -I, -E or -S, or "
            "a PYTHONPATH of its own): what it allocated is not known, "
            "reserved is all that the card counted of it"
        )
        if sampled.num_refusals and not end.exit_code:
            yield (
                f"the card was full {sampled.num_refusals} times: "
                f"what process {report.pid} did then is not known"
            )


def notes_on_blind(pids: Sequence[int]) -> Iterator[str]:
    """Which processes were not shown the card."""
    for pid in pids:
        yield (
            f"process {pid} ran without the environment that shows it the card (env -i, or an LD_PRELOAD of "
            "its own?): what it would take of it is not known"
        )


def _held(peak_bytes: int, sampled: Sampled) -> int:
    """Without the CUDA context."""
    return max(peak_bytes - sampled.context_bytes, 0)
