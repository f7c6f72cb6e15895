"""Whether a job fits its card, how much room is left, or how it ended instead."""

from __future__ import annotations

from typing import assert_never

from profiler.records.schema import Device, Outcome, OutcomeStatus, Peak, Record, device_peak_bytes
from profiler.units import format_bytes


def verdict_line(record: Record) -> str:
    """One line: the peaks, and whether the job fits or how it ended."""
    return ": ".join(part for part in (_peaks(record), _ending(record)) if part)


def is_fitting(record: Record) -> bool:
    """Whether a job ran, and held no more than its card has: some drivers lend it the host's memory."""
    used = device_peak_bytes(record)
    is_within = used is None or record.device is None or used <= record.device.total_bytes
    return record.outcome.status is OutcomeStatus.OK and is_within


def _peaks(record: Record) -> str:
    if record.peak is None or record.device is None:
        return ""
    peak, used = record.peak, device_peak_bytes(record)
    figures = (
        f"peak allocated {format_bytes(peak.allocated_bytes)}, reserved {format_bytes(peak.reserved_bytes)}"
    )
    if used is not None:
        figures += f", device {format_bytes(used)}"
    return f"{figures} of {format_bytes(record.device.total_bytes)} ({device_label(record.device)})"


def outcome_label(outcome: Outcome) -> str:
    """How a job ended, in a word or two; out of memory that was told from another job is called inferred."""
    match outcome.status:
        case OutcomeStatus.OOM:
            return "OOM" if outcome.inferred_from is None else "OOM (inferred)"
        case OutcomeStatus.ERROR:
            return "failed"
        case OutcomeStatus.TIMEOUT:
            return "time limit"
        case OutcomeStatus.OK | OutcomeStatus.KILLED:
            return str(outcome.status)
        case _:
            assert_never(outcome.status)


def device_label(device: Device) -> str:
    """The card's name; a virtual one is always called so."""
    return f"virtual {device.name}" if device.kind == "virtual" else device.name


def _ending(record: Record) -> str:
    outcome = record.outcome
    match outcome.status:
        case OutcomeStatus.OK:
            return _fit(record.peak, record.device, device_peak_bytes(record))
        case OutcomeStatus.OOM:
            return _out_of_memory(outcome)
        case OutcomeStatus.ERROR:
            return f"the job failed{_where(outcome)}"
        case OutcomeStatus.TIMEOUT:
            return f"stopped at the time limit{_where(outcome)}"
        case OutcomeStatus.KILLED:
            by = f" by signal {outcome.signal}" if outcome.signal is not None else ""
            return f"the process was killed{by}{_where(outcome)}"
        case _:
            assert_never(outcome.status)


def _fit(peak: Peak | None, device: Device | None, used_bytes: int | None) -> str:
    if peak is None or device is None:
        return "nothing was read"
    if used_bytes is None:
        room = device.total_bytes - peak.reserved_bytes
        return f"{format_bytes(room)} left for the CUDA context, whose size is not known"
    room = device.total_bytes - used_bytes
    return (
        f"fits, {format_bytes(room)} free" if room >= 0 else f"does not fit, {format_bytes(-room)} too much"
    )


def _out_of_memory(outcome: Outcome) -> str:
    asked = outcome.requested_bytes
    asking = "" if asked is None else f", asking for {format_bytes(asked)} more"
    return f"does not fit, out of memory{_where(outcome)}{asking}"


def _where(outcome: Outcome) -> str:
    return "" if outcome.place is None else f" in {outcome.place.of_step}"
