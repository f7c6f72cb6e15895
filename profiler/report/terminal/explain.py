"""What was in memory at a job's peak, on a terminal: a tree by component, the lines, and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from profiler.report.base.describe import describe_job
from profiler.report.base.explanation import (
    effect_text,
    effects_title,
    instant_lines,
    kind_of,
    lines_by_size,
    share_of,
    when_of,
    worth_telling,
)
from profiler.report.base.text import (
    left,
    literal,
    plain_table,
    right,
    show_blocks,
    size,
    titled,
    titled_table,
)
from profiler.report.base.verdict import verdict_line
from profiler.report.terminal.output import notice
from profiler.report.terminal.record import heading_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, Group
    from rich.table import Table

    from profiler.errors import PeakvramError
    from profiler.explain.effects import Effect
    from profiler.explain.explanation import Component, Explanation
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
    instant = instant_lines(explanation.instant, kind_of(record))
    notes = (literal(f"note: {note}") for note in (*explanation.notes, *record.notes))
    show_blocks(
        console,
        heading_lines(record),
        [literal(line, "bold" if line[0] != " " else "") for line in instant],
        _tree(explanation),
        _lines(explanation),
        () if effects is None else _effects(record, effects),
        [literal(verdict_line(record)), *notes],
    )


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


def _tree(explanation: Explanation) -> Group:
    total = explanation.instant.allocated_bytes
    columns = left("component") | right("bytes", "share", "blocks")
    table = plain_table(columns | left("mostly allocated by"))
    for component in explanation.components:
        _add_component(table, component, total)
    num_blocks = sum(component.num_blocks for component in explanation.components)
    table.add_row(Text("total"), size(total), Text("100.0%"), Text(f"{num_blocks:,}"), style="bold")
    return titled(f"What was allocated {when_of(explanation.instant)}", table)


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
    rows = (
        [line, size(size_bytes), share_of(size_bytes, total), f"{num_blocks:,}", components]
        for line, size_bytes, num_blocks, components in lines_by_size(explanation)[:_MAX_LINES]
    )
    columns = left("line") | right("bytes", "share", "blocks") | left("of")
    return titled_table("The lines that allocated most of it", columns, rows)


def _effects(record: Record, effects: Iterable[Effect]) -> Group | list[Text]:
    if not (telling := worth_telling(effects, record)):
        return [Text("No change that was tried lowers the peak", style="bold")]
    rows = (
        [
            effect.flags,
            size(effect.allocated_bytes),
            size(effect.reserved_bytes),
            effect_text(effect, record),
            effect.cost,
        ]
        for effect in telling
    )
    columns = left("change") | right("peak allocated", "peak reserved") | left("effect", "what it costs")
    return titled_table(effects_title(record), columns, rows)
