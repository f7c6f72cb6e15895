"""What a comparison of two studies looks like in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.changes import (
    CHANGE_HEADINGS,
    change_cells,
    change_lines,
    described,
    one_sided,
    verdict,
)
from profiler.report.markdown.write import escape, table

if TYPE_CHECKING:
    from fractions import Fraction

    from profiler.records.compare import Comparison, FigureName


def comparison_markdown(comparison: Comparison, *, limit: Fraction | None, figure: FigureName) -> str:
    """How the environments differ, every job that changed, and a verdict."""
    lines = [f"- {escape(line)}" for line in change_lines(comparison)]
    parts = ["# What changed\n", "\n".join(lines) + "\n"]
    if comparison.changed:
        rows = ([escape(text) for text in change_cells(pair)] for pair in comparison.changed)
        parts += ["## Changed jobs\n", table(list(CHANGE_HEADINGS), rows, num_left=1)]
    for heading, records in one_sided(comparison):
        jobs = "\n".join(f"- {escape(line)}" for line in described(records))
        parts += [f"## {escape(heading)}\n", jobs + "\n"]
    if limit is not None:
        parts.append(f"**{escape(verdict(comparison, limit=limit, figure=figure))}**\n")
    return "\n".join(parts)
