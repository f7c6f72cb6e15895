"""What a command says of a study's files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.terminal.output import notice

if TYPE_CHECKING:
    from profiler.records.store import RecordStore

_MAX_PROBLEMS = 10


def report_problems(store: RecordStore) -> None:
    """Says which files of a study were skipped, and why; they are left where they are."""
    problems = store.scan().problems
    for problem in problems[:_MAX_PROBLEMS]:
        notice(f"skipped {problem.path}: {problem.reason}")
    if len(problems) > _MAX_PROBLEMS:
        notice(f"skipped {len(problems) - _MAX_PROBLEMS} more files that are no records")
