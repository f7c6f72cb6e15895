"""`peakvram run`: one job, phase by phase."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

from profiler.cli import options as o
from profiler.cli.dry_run import say_whether_it_can_run
from profiler.cli.job import JobFlags, takes_job
from profiler.errors import ConfigError, PeakvramError
from profiler.jobs.flags import read_number
from profiler.records.schema import OutcomeStatus, Record
from profiler.records.store import check_directory, write_record
from profiler.report.terminal.output import data_output, notice, print_json, progress
from profiler.report.terminal.record import show_record

if TYPE_CHECKING:
    from pathlib import Path


@takes_job()
def run(  # noqa: PLR0913 - one parameter a flag
    *,
    job: JobFlags,
    allow_busy: o.AllowBusy = False,
    timeout: o.Timeout = None,
    dry_run: o.DryRun = False,
    out: o.Out = o.ADHOC,
    json: o.Json = False,
) -> int:
    """Run one job and show its GPU memory, phase by phase.

    \b
    peakvram run llama-3.1-8b --method qlora --gpu rtx-4090
    peakvram run Qwen/Qwen3-8B --method lora --rank 8 --targets q_proj,v_proj
    peakvram run mistral-7b-v0.1 --method full --batch-size 4 --gpu a100-80gb
    peakvram run llama-3.1-8b --method inference --quant nf4 --new-tokens 128 --gpu rtx-4090
    peakvram run --config job.yaml --set method.rank=64 --json

    Exit codes: 0 done (out of memory is a result), 1 the job failed, 2 usage, 3 unfit environment,
    124 time limit, 130 interrupted.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.execute.local import run_job  # noqa: PLC0415 - `run --help` needs none of it

    spec, reasons = job.read()
    timeout_s = read_timeout(timeout)
    for reason in reasons:
        notice(reason)
    if dry_run:
        return say_whether_it_can_run(spec, as_json=json)
    check_directory(out / "records")
    with progress(f"starting {spec.model}") as on_phase:
        record = run_job(spec, timeout_s=timeout_s, allow_busy=allow_busy, on_phase=on_phase)
    unsaid = tuple(reason for reason in reasons if reason not in record.notes)
    if unsaid:
        record = record.model_copy(update={"notes": (*record.notes, *unsaid)})
    _deliver(record, directory=out / "records", as_json=json)
    return exit_code_of(record.outcome.status)


def read_timeout(text: str | None) -> float | None:
    """Reads `--timeout`.

    Raises:
        ConfigError: if it is no number of seconds above 0.
    """
    if text is None:
        return None
    seconds = read_number(text)
    if isinstance(seconds, str) or not 0 < seconds < math.inf:
        raise ConfigError(
            f"--timeout: {text!r} is no number of seconds above 0", hint="write for example 600"
        )
    return seconds


def _deliver(record: Record, *, directory: Path, as_json: bool) -> None:
    """Writes the record, then shows it; shows it also where it cannot be written: it may have taken long."""
    try:
        path = write_record(directory, record)
    except PeakvramError:
        _show(record, path=None, as_json=as_json)
        raise
    _show(record, path=path, as_json=as_json)


def _show(record: Record, *, path: Path | None, as_json: bool) -> None:
    from profiler.cli.miss import tell_miss_of_run  # noqa: PLC0415 - nor this

    if not as_json:
        with data_output() as console:
            show_record(console, record, path=path)
        tell_miss_of_run(record)
        return
    print_json(record.model_dump_json(indent=2))
    tell_miss_of_run(record)
    if path is not None:
        notice(f"Wrote {path}")


def exit_code_of(status: OutcomeStatus) -> int:
    """The exit code of a command that ran one job; out of memory is a result."""
    match status:
        case OutcomeStatus.OK | OutcomeStatus.OOM:
            return 0
        case OutcomeStatus.ERROR | OutcomeStatus.KILLED:
            return 1
        case OutcomeStatus.TIMEOUT:
            return 124
        case _:
            assert_never(status)
