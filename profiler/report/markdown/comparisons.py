"""How two studies, and a real card and its virtual twin, compare in Markdown."""

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
from profiler.report.base.describe import versions_of
from profiler.report.base.twins import TWIN_HEADINGS, card_lines, detail_lines, job_label, twin_cells
from profiler.report.markdown.write import escape, table
from profiler.text import shown
from profiler.verify.parting import Likeness

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from profiler.records.compare import Comparison, FigureName
    from profiler.verify.folder import TwinComparison
    from profiler.verify.parting import JobComparison


def changes_markdown(comparison: Comparison, *, limit: Fraction | None, figure: FigureName) -> str:
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


_VERSIONS = ("torch", "cuda", "transformers", "peft", "bitsandbytes", "driver")
_FILES = """\
## Files

- `real/records`, `real/histories`: of the real card.
- `virtual/records`, `virtual/histories`: of its virtual twin.
- `differences.json`: what this page says, for programs.
- A history (`*.jsonl.gz`) has a line a phase: the allocator's events in order, with their Python lines.

Times in these records are not those of an ordinary run: the history was recorded beside.
"""


def twins_readme(comparison: TwinComparison) -> str:
    """The page of a contributed folder."""
    card = comparison.card
    parts = [
        f"# {escape(card.name)} and its virtual twin\n",
        *(f"{escape(line)}.\n" for line in card_lines(comparison)),
    ]
    if comparison.environment is not None:
        versions = ", ".join(versions_of(comparison.environment, _VERSIONS))
        parts.append(f"{escape(versions)}; {escape(comparison.environment.platform)}.\n")
    parts.append(f"{_count(comparison.jobs)}.\n")
    cells = ([escape(cell) for cell in twin_cells(job)] for job in comparison.jobs)
    parts.append(table(list(TWIN_HEADINGS), cells, num_left=2))
    for number, job in enumerate(comparison.jobs, 1):
        if lines := list(detail_lines(job)):
            body = "\n".join(f"    {shown(line)}" for line in lines)
            parts.append(f"## Job {number}: {escape(job_label(job.spec))}\n\n{body}\n")
    return "\n".join([*parts, _FILES])


def _count(jobs: Sequence[JobComparison]) -> str:
    counts = {verdict: sum(job.verdict is verdict for job in jobs) for verdict in Likeness}
    results = "; ".join(f"{count} with the result '{verdict}'" for verdict, count in counts.items() if count)
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {results}"
