"""Running a list of jobs with the libraries of another Python, or of this one, as a sweep does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError, PeakvramError
from profiler.resources import PACKAGE_ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.jobs.job import JobSpec

# That Python's own libraries come first; this package, which need not be installed there, comes last.
_PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from profiler.evidence.measurements.batch import main
sys.exit(main(sys.argv[2]))
"""


def run_batch(jobs: Sequence[JobSpec], out: Path, *, python: Path, directory: Path) -> None:
    """Runs the jobs that have no record yet in that Python's libraries; its progress goes to stderr.

    Args:
        jobs: each with its card named.
        out: the study whose store takes the records.
        python: an interpreter that has torch and what peakvram itself needs.
        directory: where relative paths in the jobs begin.

    Raises:
        EnvironmentUnfitError: if that process cannot run the jobs.
    """
    texts = json.dumps([job.model_dump(mode="json") for job in jobs])
    command = [str(python), "-P", "-c", _PROGRAM, str(PACKAGE_ROOT), str(out.resolve())]
    try:
        done = subprocess.run(command, input=texts, text=True, cwd=directory, stdout=sys.stderr, check=False)
    except OSError as error:
        raise EnvironmentUnfitError(f"{python} cannot be started: {error.strerror}") from None
    if done.returncode < 0 or done.returncode > 1:  # 1: a job failed, which its record tells
        raise EnvironmentUnfitError(
            f"{python} could not run the jobs (exit code {done.returncode})", hint="what it said is above"
        )


def main(out: str) -> int:
    """Runs the jobs of stdin; 1 where one failed."""
    from profiler.execute.pending import pending_jobs  # noqa: PLC0415 - in the environment of older libraries
    from profiler.execute.schedule import SweepOptions, run_sweep  # noqa: PLC0415 - in the environment of older libraries
    from profiler.jobs.job import JobSpec  # noqa: PLC0415 - in the environment of older libraries
    from profiler.records.store import RecordStore  # noqa: PLC0415 - in the environment of older libraries
    from profiler.report.terminal.progress import sweep_progress  # noqa: PLC0415 - in that process only

    try:
        jobs = [JobSpec.model_validate(job) for job in json.load(sys.stdin)]
        store = RecordStore(Path(out))
        pending = pending_jobs(jobs, store)
        with sweep_progress(len(pending.todo)) as events:
            options = SweepOptions(prune=False)
            summary = run_sweep(pending.todo, store, options, events, seen=pending.seen)
    except PeakvramError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 1 if summary.num_failed or summary.num_refused else 0
