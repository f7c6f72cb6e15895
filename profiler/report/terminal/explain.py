"""What was in memory at a job's peak, on a terminal: a tree by component, the lines, and what would help."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.text import Text

from profiler.records.schema import OutcomeStatus, PhaseName
from profiler.report.base.text import literal, plain_table, size, titled
from profiler.report.base.verdict import verdict_line
from profiler.report.terminal.output import notice
from profiler.report.terminal.record import describe_job, heading_lines
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console, Group
    from rich.table import Table

    from profiler.errors import PeakvramError
    from profiler.explain.effects import Effect
    from profiler.explain.explanation import Component, ExplainedInstant, Explanation
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

_MIN_SHARE = 0.01
"""Of the total: what is smaller is not worth a line of its own."""
_MAX_GROUPS = 6
_MAX_LINES = 8


def show_explanation(
    console: Console, record: Record, explanation: Explanation, *, effects: tuple[Effect, ...] | None
) -> None:
    """Prints the instant, the tree, the lines and what changes do; `effects` is None if none was tried."""
    for heading in heading_lines(record):
        console.print(heading, soft_wrap=True)
    console.print()
    for line in instant_lines(explanation.instant, kind_of(record)):
        console.print(literal(line, "bold" if line[0] != " " else ""), soft_wrap=True)
    console.print()
    console.print(_tree(explanation))
    console.print()
    console.print(_lines(explanation))
    if effects is not None:
        console.print()
        _show_effects(console, record, effects)
    console.print()
    console.print(literal(verdict_line(record)), soft_wrap=True)
    for note in (*explanation.notes, *record.notes):
        console.print(literal(f"note: {note}"), soft_wrap=True)


class ChangesTold:
    """Tells on stderr which changes are run."""

    def started(self, spec: JobSpec, worker: str) -> None:  # noqa: ARG002 - which worker does not matter
        """A changed job has been started."""
        notice(f"trying {describe_job(spec)}")

    def finished(self, record: Record) -> None:
        """A changed job is over."""

    def refused(self, spec: JobSpec, error: PeakvramError) -> None:
        """A changed job cannot be run."""
        notice(f"not run: {describe_job(spec)}: {error}")


def kind_of(record: Record) -> str:
    """Whether a run was on a virtual card or a real one."""
    return "virtual" if record.device is not None and record.device.kind == "virtual" else "real"


def instant_lines(instant: ExplainedInstant, kind: str) -> Iterator[str]:
    """Which instant it is, in a few lines."""
    where = phase_label(instant.phase, instant.step)
    where += f", at {instant.module}" if instant.module else ""
    held = f"{format_bytes(instant.allocated_bytes)} ({instant.allocated_bytes:,} B)"
    if instant.is_failure:
        asked = format_bytes(instant.requested_bytes or 0)
        yield f"Out of memory ({kind} card) in {where}: {held} allocated, and {asked} more asked for"
    else:
        yield f"Peak ({kind} card): {held} allocated, in {where}"
    yield f"  reached by {instant.line}"
    if instant.caller and instant.caller != instant.line:
        yield f"  called from {instant.caller}"


def phase_label(phase: PhaseName, step: int | None) -> str:
    """A phase, and the step it is of."""
    name = "optimizer step" if phase is PhaseName.STEP else str(phase)
    return name if step is None else f"{name} of step {step}"


def share_of(part_bytes: int, total_bytes: int) -> str:
    """A share in per cent."""
    return f"{part_bytes / total_bytes:.1%}" if total_bytes else "0.0%"


def lines_by_size(explanation: Explanation) -> list[tuple[str, int, int, str]]:
    """Every line with its bytes, its number of blocks and its components, the largest first."""
    sizes: dict[str, int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    components: dict[str, dict[str, None]] = defaultdict(dict)
    for component in explanation.components:
        for line in (line for group in component.groups for line in group.lines):
            sizes[line.line] += line.size_bytes
            counts[line.line] += line.num_blocks
            components[line.line][component.name] = None
    ranked = sorted(sizes, key=lambda line: -sizes[line])
    return [(line, sizes[line], counts[line], ", ".join(components[line])) for line in ranked]


def _tree(explanation: Explanation) -> Group:
    total = explanation.instant.allocated_bytes
    columns = {"component": "left", "bytes": "right", "share": "right", "blocks": "right"}
    table = plain_table(columns | {"mostly allocated by": "left"})
    for component in explanation.components:
        _add_component(table, component, total)
    num_blocks = sum(component.num_blocks for component in explanation.components)
    table.add_row(Text("total"), size(total), Text("100.0%"), Text(f"{num_blocks:,}"), style="bold")
    when = "when memory ran out" if explanation.instant.is_failure else "at the peak"
    return titled(f"What was allocated {when}", table)


def _add_component(table: Table, component: Component, total: int) -> None:
    cells = (size(component.size_bytes), Text(share_of(component.size_bytes, total)))
    table.add_row(literal(component.name), *cells, Text(f"{component.num_blocks:,}"), style="bold")
    shown = [group for group in component.groups if group.size_bytes >= _MIN_SHARE * total][:_MAX_GROUPS]
    for group in shown:
        table.add_row(
            literal(f"  {group.name}"),
            size(group.size_bytes),
            Text(share_of(group.size_bytes, total)),
            Text(f"{group.num_blocks:,}"),
            literal(group.lines[0].line),
        )
    rest = component.groups[len(shown) :]
    rest_bytes = sum(group.size_bytes for group in rest)
    if shown and rest:
        num_blocks = sum(group.num_blocks for group in rest)
        table.add_row(
            Text(f"  {len(rest)} more"),
            size(rest_bytes),
            Text(share_of(rest_bytes, total)),
            Text(f"{num_blocks:,}"),
        )


def _lines(explanation: Explanation) -> Group:
    total = explanation.instant.allocated_bytes
    columns = {"line": "left", "bytes": "right", "share": "right", "blocks": "right", "of": "left"}
    table = plain_table(columns)
    for line, size_bytes, num_blocks, components in lines_by_size(explanation)[:_MAX_LINES]:
        cells = (size(size_bytes), Text(share_of(size_bytes, total)), Text(f"{num_blocks:,}"))
        table.add_row(literal(line), *cells, literal(components))
    return titled("The lines that allocated most of it", table)


def _show_effects(console: Console, record: Record, effects: Iterable[Effect]) -> None:
    rows = worth_telling(effects, record)
    if not rows:
        console.print(Text("No change that was tried lowers the peak", style="bold"))
        return
    columns = {"change": "left", "peak allocated": "right", "peak reserved": "right", "effect": "left"}
    table = plain_table(columns | {"what it costs": "left"})
    for effect in rows:
        cells = (size(effect.allocated_bytes), size(effect.reserved_bytes))
        table.add_row(
            literal(effect.flags), *cells, literal(effect_text(effect, record)), literal(effect.cost)
        )
    console.print(titled(effects_title(record), table))


def effects_title(record: Record) -> str:
    """What stands above the changes."""
    return f"What would lower it: each change run by itself, on the same {kind_of(record)} card"


def worth_telling(effects: Iterable[Effect], record: Record) -> list[Effect]:
    """The changes that lower the peak; of a job that ran out of memory all that were tried."""
    is_failed = record.outcome.status is OutcomeStatus.OOM
    return [effect for effect in effects if is_failed or effect.saved_bytes > 0]


def effect_text(effect: Effect, record: Record) -> str:
    """What a change does."""
    if effect.status is not OutcomeStatus.OK:
        return "runs out of memory too"
    if record.outcome.status is OutcomeStatus.OOM or record.peak is None:
        return "fits"
    is_allocated = record.peak.allocated_bytes - effect.allocated_bytes == effect.saved_bytes
    return f"{format_bytes(effect.saved_bytes)} less{'' if is_allocated else ' reserved'}"
