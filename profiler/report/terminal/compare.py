"""What a comparison of two studies looks like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from profiler.report.base.changes import (
    CHANGE_HEADINGS,
    MAX_SHOWN,
    change_cells,
    change_lines,
    described,
    one_sided,
    verdict,
)
from profiler.report.base.text import literal, plain_table, titled

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction

    from rich.console import Console

    from profiler.records.compare import Comparison, FigureName, Pair


def show_comparison(
    console: Console, comparison: Comparison, *, limit: Fraction | None, figure: FigureName
) -> None:
    """Prints how the environments differ, the jobs that changed, most changed first, and a verdict."""
    for line in change_lines(comparison):
        console.print(literal(line), soft_wrap=True)
    changed = comparison.changed
    if changed:
        console.print()
        console.print(_changes(changed[:MAX_SHOWN]))
    if len(changed) > MAX_SHOWN:
        console.print(Text(f"and {len(changed) - MAX_SHOWN} more: --json lists all"))
    for heading, records in one_sided(comparison):
        console.print()
        console.print(Group(literal(heading, "bold"), *map(literal, described(records))))
    if limit is not None:
        console.print()
        num_over = len(comparison.over(limit, figure))
        style = "bold red" if num_over else "bold green"
        console.print(literal(verdict(comparison, limit=limit, figure=figure), style), soft_wrap=True)


def _changes(pairs: Iterable[Pair]) -> Group:
    table = plain_table(CHANGE_HEADINGS)
    for pair in pairs:
        table.add_row(*map(literal, change_cells(pair)))
    return titled("Changed jobs", table)
