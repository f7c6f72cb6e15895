"""What was in memory at a job's peak, on a terminal: a tree by component, the lines, and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

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
from profiler.report.base.text import literal, plain_table, size, titled
from profiler.report.base.verdict import verdict_line
from profiler.report.terminal.record import heading_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, Group
    from rich.table import Table

    from profiler.explain.effects import Effect
    from profiler.explain.explanation import Component, Explanation
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


def _tree(explanation: Explanation) -> Group:
    total = explanation.instant.allocated_bytes
    columns = {"component": "left", "bytes": "right", "share": "right", "blocks": "right"}
    table = plain_table(columns | {"mostly allocated by": "left"})
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
