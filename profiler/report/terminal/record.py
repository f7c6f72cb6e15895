"""What one record looks like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from profiler.records.schema import Components, Device, OutcomeStatus, PhaseReading, Record
from profiler.report.base.describe import VIRTUAL_CARD, describe_job, host_text, managed_text
from profiler.report.base.text import UNKNOWN, left, literal, plain_table, right, show_blocks, size, titled
from profiler.report.base.verdict import device_label, verdict_line
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console, Group

_VERDICT_STYLES = {OutcomeStatus.OK: "bold green", OutcomeStatus.OOM: "bold yellow"}


def show_record(console: Console, record: Record, *, path: Path | None = None) -> None:
    """Prints a record: the job, its card, phases, components, the verdict, notes and where it was written."""
    show_blocks(
        console,
        heading_lines(record),
        phases_table(record) if record.phases else (),
        components_table(record, record.components) if record.components is not None else (),
        [*_closing(record), *([literal(f"Wrote {path}")] if path is not None else [])],
    )


def phases_table(record: Record) -> Group:
    """One row a phase; peaks are of that phase alone. Times are shown where a real card gave any."""
    has_micro_steps = any(phase.micro_step is not None for phase in record.phases)
    columns = left("phase") | right("step", *(["micro step"] if has_micro_steps else []))
    columns |= right("allocated", "peak allocated", "peak reserved", _device_heading(record.device))
    is_timed = any(phase.elapsed_s is not None for phase in record.phases)
    table = plain_table(columns | (right("time") if is_timed else {}))
    for phase in record.phases:
        elapsed = UNKNOWN if phase.elapsed_s is None else f"{phase.elapsed_s:.3f} s"
        name, step, *figures = _phase_row(phase)
        micro_step = [_number(phase.micro_step)] if has_micro_steps else []
        table.add_row(name, step, *micro_step, *figures, *([elapsed] if is_timed else []))
    return titled("Phases", table)


def components_table(record: Record, components: Components) -> Group:
    """One row a component that holds anything, largest first, and their sum."""
    at = record.components_at
    where = f" at the end of {at.place}" if at else ""
    table = plain_table(left("component") | right("bytes", "share"))
    total = components.total_bytes
    for name, count in sorted(components.model_dump().items(), key=lambda item: -item[1]):
        if count:
            label = name.removesuffix("_bytes").replace("_", " ")
            table.add_row(literal(label), size(count), Text(f"{count / total:.1%}"))
    table.add_row(Text("total"), size(total), Text("100.0%" if total else UNKNOWN), style="bold")
    return titled(f"What is allocated{where}", table)


def heading_lines(record: Record) -> Iterator[Text]:
    """The job and its card."""
    yield literal(describe_job(record.spec), "bold")
    if record.parameters is not None:
        trained = record.parameters.trainable / max(record.parameters.total, 1)
        yield Text(
            f"{record.parameters.total:,} parameters, {record.parameters.trainable:,} trained ({trained:.2%})"
        )
    device = record.device
    if device is None:
        return
    capability = f"compute capability {device.compute_capability}, {device.num_sms} SMs"
    yield literal(f"{device_label(device)} ({device.id}), {format_bytes(device.total_bytes)}, {capability}")
    yield literal(f"chosen because: {device.reason}")
    if device.kind == "virtual":
        yield Text(VIRTUAL_CARD, style="bold magenta")
    elif device.device_used_source == "sampled":
        yield Text("device figures were sampled every 10 ms: a shorter peak may be missing")


def _device_heading(device: Device | None) -> str:
    if device is None or device.device_used_source == "none":
        return "device"
    return "virtual device" if device.kind == "virtual" else f"device ({device.device_used_source})"


def _phase_row(phase: PhaseReading) -> list[Text]:
    return [
        Text(phase.name if phase.is_complete else f"{phase.name} (failed)"),
        _number(phase.step),
        size(phase.allocated_end_bytes),
        size(phase.allocated_peak_bytes),
        size(phase.reserved_peak_bytes),
        size(phase.device_used_peak_bytes),
    ]


def _number(number: int | None) -> Text:
    return Text("" if number is None else str(number))


def _closing(record: Record) -> Iterator[Text]:
    yield literal(verdict_line(record), _VERDICT_STYLES.get(record.outcome.status, "bold red"))
    if record.outcome.message:
        yield literal(record.outcome.message)
    if record.outcome.inferred_from:
        yield literal(f"told from {record.outcome.inferred_from}")
    if record.managed_bytes:
        yield Text(managed_text(record.managed_bytes))
    if (host := host_text(record.phases)) is not None:
        yield Text(host)
    if record.value_reads is not None and record.value_reads.unknown:
        sites = ", ".join(record.value_reads.sites)
        yield literal(
            f"{record.value_reads.unknown} reads of values that a virtual card cannot know: {sites}"
        )
    for note in record.notes:
        yield literal(f"note: {note}")
