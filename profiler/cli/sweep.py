"""`peakvram sweep`: every job of a sweep, each stored as it ends."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.job import Gpu  # noqa: TC001 - typer reads the annotations
from profiler.cli.run import read_timeout
from profiler.errors import ConfigError, EnvironmentUnfitError, PeakvramError
from profiler.execute.pending import Pending, Rerun, pending_jobs
from profiler.execute.schedule import SweepOptions, run_sweep
from profiler.execute.study import Study, read_study
from profiler.files import check_directory
from profiler.jobs.problems import nearest_hint
from profiler.records.study import SweepNote, note_sweep
from profiler.report.base.text import literal
from profiler.report.terminal.output import data_output, notice, print_json_value, report_problems
from profiler.report.terminal.progress import sweep_progress
from profiler.report.terminal.sweep import sweep_lines, sweep_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

_RERUNS = ("failed", "oom", "all")


class InterruptedSweepError(PeakvramError):
    """The sweep was stopped by its user."""

    exit_code = 130


def sweep(  # noqa: PLR0913 - one parameter a flag
    *,
    file: o.SweepFile,
    gpu: Gpu = None,
    set_: o.SweepSet = None,
    out: o.SweepOut = None,
    rerun: o.Rerun = None,
    limit: o.Limit = None,
    timeout: o.Timeout = None,
    fail_fast: o.FailFast = False,
    prune: o.Prune = True,
    workers: o.Workers = None,
    allow_busy: o.AllowBusy = False,
    json: o.Json = False,
) -> int:
    """Run every job of a sweep that has no record yet.

    Each record is stored as its job ends: stop whenever you like, and the same command goes on where it was.
    Out of memory is a result. A larger batch or length than one that ran out of memory is not run but
    recorded as out of memory by inference, unless --no-prune.

    \b
    peakvram sweep smoke
    peakvram sweep my-sweep.yaml --gpu real --timeout 600
    peakvram sweep my-sweep.yaml --rerun failed

    Exit codes: 0 done (out of memory is a result), 1 some job failed, 2 usage, 3 unfit environment,
    130 interrupted.
    """  # noqa: D301 - \b keeps the examples' lines apart
    study = read_study(file, out=out, gpu=gpu, settings=set_ or [])
    timeout_s = read_timeout(timeout)
    check_directory(study.store.records_directory)
    report_problems(study.store)
    for reason in study.reasons:
        notice(reason)
    pending = _pending(study, rerun=rerun)
    todo = pending.todo[:limit]
    if todo:
        command = _command(file, _flags(gpu=gpu, settings=set_, timeout=timeout, out=out), prune=prune)
        note_sweep(study.store.directory, SweepNote(command=command, sweep=study.sweep))
    options = SweepOptions(
        timeout_s=timeout_s, fail_fast=fail_fast, prune=prune, allow_busy=allow_busy, num_workers=workers
    )
    with sweep_progress(len(todo)) as events:
        summary = run_sweep(todo, study.store, options, events, seen=pending.seen)
    if json:
        print_json_value(sweep_tree(study, pending, summary))
    else:
        with data_output() as console:
            for line in sweep_lines(study, pending, summary, num_todo=len(todo)):
                console.print(literal(line), soft_wrap=True)
    if summary.is_interrupted:
        raise InterruptedSweepError("interrupted", hint="the same command goes on where this one stopped")
    if summary.is_machine_at_fault:
        return EnvironmentUnfitError.exit_code
    return 1 if summary.num_failed or summary.num_refused else 0


def _pending(study: Study, *, rerun: str | None) -> Pending:
    if rerun is not None and rerun not in _RERUNS:
        raise ConfigError(f"--rerun: there is no {rerun!r}", hint=nearest_hint(rerun, _RERUNS))
    return pending_jobs(study.jobs, study.store, rerun=Rerun(rerun) if rerun else Rerun.MISSING)


def _flags(
    *, gpu: str | None, settings: Sequence[str] | None, timeout: str | None, out: Path | None
) -> list[tuple[str, str]]:
    """The flags that were given, of those that decide what is recorded and where."""
    flags = [("--gpu", gpu), *(("--set", setting) for setting in settings or [])]
    flags += [("--timeout", timeout), ("--out", _short_path(out) if out else None)]
    return [(flag, value) for flag, value in flags if value is not None]


def _command(file: Path, flags: Sequence[tuple[str, str]], *, prune: bool) -> str:
    """What makes the same records again; where on this machine it was typed is nobody's business."""
    words = ["peakvram", "sweep", _short_path(file), *(word for flag in flags for word in flag)]
    return shlex.join(words if prune else [*words, "--no-prune"])


def _short_path(path: Path) -> str:
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else path.name
