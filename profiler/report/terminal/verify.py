"""How a real card and its virtual twin compare, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.text import literal, plain_table, titled
from profiler.report.base.twins import TWIN_HEADINGS, card_lines, detail_lines, job_label, twin_cells
from profiler.verify.compare import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from profiler.verify.folder import Comparison

_STYLES = {Verdict.IDENTICAL: "bold green", Verdict.DIFFERS: "bold red", Verdict.NOT_COMPARED: "bold red"}


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Prints the two cards, a row a job, and where each job that is not identical parts."""
    for line in card_lines(comparison):
        console.print(literal(line), soft_wrap=True)
    console.print()
    rows = plain_table(TWIN_HEADINGS)
    for column in rows.columns:
        column.overflow = "fold"  # on a narrow terminal nothing is cut off
    for job in comparison.jobs:
        cells = [literal(cell) for cell in twin_cells(job)]
        cells[1].stylize(_STYLES.get(job.verdict, "bold yellow"))
        rows.add_row(*cells)
    console.print(titled("Peaks, real and virtual", rows))
    for job in comparison.jobs:
        if lines := list(detail_lines(job)):
            console.print()
            console.print(literal(job_label(job.spec), "bold"), soft_wrap=True)
            for line in lines:
                console.print(literal(line), soft_wrap=True)
