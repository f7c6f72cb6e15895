"""How a real card and its virtual twin compare, in Markdown: the page of a contributed folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.describe import versions_of
from profiler.report.base.text import shown
from profiler.report.base.twins import TWIN_HEADINGS, card_lines, detail_lines, job_label, twin_cells
from profiler.report.markdown.write import escape, table
from profiler.verify.compare import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.verify.compare import JobComparison
    from profiler.verify.folder import Comparison

_VERSIONS = ("torch", "cuda", "transformers", "peft", "bitsandbytes", "driver")
_FILES = """\
## Files

- `real/records`, `real/histories`: of the real card.
- `virtual/records`, `virtual/histories`: of its virtual twin.
- `differences.json`: what this page says, for programs.
- A history (`*.jsonl.gz`) has a line a phase: the allocator's events in order, with their Python lines.

Times in these records are not those of an ordinary run: the history was recorded beside.
"""


def comparison_readme(comparison: Comparison) -> str:
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
    counts = {verdict: sum(job.verdict is verdict for job in jobs) for verdict in Verdict}
    results = "; ".join(f"{count} with the result '{verdict}'" for verdict, count in counts.items() if count)
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {results}"
