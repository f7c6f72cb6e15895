"""How a sweep ended, on a terminal and in plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.execute.options import SweepSummary
    from profiler.execute.pending import Pending
    from profiler.execute.study import Study


def sweep_tree(study: Study, pending: Pending, summary: SweepSummary) -> dict[str, object]:
    """What became of a study's jobs."""
    return {
        "name": study.sweep.name,
        "directory": str(study.store.directory),
        "num_jobs": len(pending.todo) + len(pending.stored),
        "num_stored_before": len(pending.stored),
        "num_written": summary.num_written,
        "num_left": len(pending.todo) - summary.num_written,
        "num_invalid": len(study.expansion.invalid),
        **asdict(summary),
    }


def sweep_lines(study: Study, pending: Pending, summary: SweepSummary, *, num_todo: int) -> Iterator[str]:
    """The same in words; `num_todo` jobs were to be run this time."""
    inferred = f" ({summary.num_inferred} of them inferred)" if summary.num_inferred else ""
    parts = [
        f"{summary.num_done} ok",
        f"{summary.num_oom} out of memory{inferred}",
        f"{summary.num_failed} failed",
    ]
    if summary.num_refused:
        parts.append(f"{summary.num_refused} could not be run")
    yield f"{', '.join(parts)}; {len(pending.stored)} were stored before"
    num_left = len(pending.todo) - summary.num_written - summary.num_refused
    if num_left:
        why = f" (--limit {num_todo})" if num_todo < len(pending.todo) else ""
        yield f"{num_left} are left{why}: the same command goes on with them"
    if study.expansion.invalid:
        yield f"{len(study.expansion.invalid)} combinations are no job: `peakvram plan` says why"
    yield f"Wrote {summary.num_written} records to {study.store.records_directory}"
