"""How two studies, and a real card and its virtual twin, compare on a terminal."""

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
from profiler.report.base.text import literal, plain_table, show_blocks, titled, titled_table
from profiler.report.base.twins import TWIN_HEADINGS, card_lines, detail_lines, job_label, twin_cells
from profiler.verify.parting import Likeness

if TYPE_CHECKING:
    from fractions import Fraction

    from rich.console import Console

    from profiler.records.compare import Comparison, FigureName
    from profiler.verify.folder import TwinComparison


def show_changes(
    console: Console, comparison: Comparison, *, limit: Fraction | None, figure: FigureName
) -> None:
    """Prints how the environments differ, the jobs that changed, most changed first, and a verdict."""
    blocks: list[Group | list[Text]] = [[literal(line) for line in change_lines(comparison)]]
    if changed := comparison.changed:
        table = titled_table("Changed jobs", CHANGE_HEADINGS, map(change_cells, changed[:MAX_SHOWN]))
        num_left = len(changed) - MAX_SHOWN
        more = [Text(f"and {num_left} more: --json lists all")] if num_left > 0 else []
        blocks.append(Group(table, *more))
    for heading, records in one_sided(comparison):
        blocks.append(Group(literal(heading, "bold"), *map(literal, described(records))))
    if limit is not None:
        style = "bold red" if comparison.over(limit, figure) else "bold green"
        blocks.append([literal(verdict(comparison, limit=limit, figure=figure), style)])
    show_blocks(console, *blocks)


_STYLES = {Likeness.IDENTICAL: "bold green", Likeness.DIFFERS: "bold red", Likeness.NOT_COMPARED: "bold red"}


def show_twins(console: Console, comparison: TwinComparison) -> None:
    """Prints the two cards, a row a job, and where each job that is not identical parts."""
    rows = plain_table(TWIN_HEADINGS)
    for column in rows.columns:
        column.overflow = "fold"  # on a narrow terminal nothing is cut off
    for job in comparison.jobs:
        cells = [literal(cell) for cell in twin_cells(job)]
        cells[1].stylize(_STYLES.get(job.verdict, "bold yellow"))
        rows.add_row(*cells)
    details = (
        [literal(job_label(job.spec), "bold"), *map(literal, lines)]
        for job in comparison.jobs
        if (lines := list(detail_lines(job)))
    )
    table = titled("Peaks, real and virtual", rows)
    show_blocks(console, map(literal, card_lines(comparison)), table, *details)
