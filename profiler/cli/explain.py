"""`peakvram explain`: what is in memory at a job's peak, and which line allocated it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o
from profiler.cli.job import JobFlags, takes_job
from profiler.cli.run import exit_code_of, read_timeout
from profiler.errors import ConfigError
from profiler.records.schema import OutcomeStatus
from profiler.records.store import read_record
from profiler.report.base.text import literal
from profiler.report.terminal.explain import ChangesTold, show_explanation
from profiler.report.terminal.output import data_output, notice, print_json_value, progress
from profiler.report.terminal.record import show_record

if TYPE_CHECKING:
    from profiler.explain.effects import Effect
    from profiler.explain.run import ExplainedRun
    from profiler.jobs.job import JobSpec

_PIPE_WIDTH = 200  # a line of code beside its figures
_MODEL_OR_RECORD = (
    "MODEL|RECORD",
    "A preset (`peakvram models`), a Hub id or a local directory; or a record (.json), for its job.",
)

NoSuggest = Annotated[bool, o.switch("--no-suggest", "Do not look for changes that lower the peak.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the page of this run: one file, offline.")
]
Snapshot = Annotated[
    Path | None,
    typer.Option(
        "--snapshot", metavar="FILE", help="Write torch's own snapshot of the peak's phase, for memory_viz."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Write explanation.html and .json into DIR.")
]


@takes_job(model=_MODEL_OR_RECORD)
def explain(  # noqa: PLR0913 - one parameter a flag
    *,
    job: JobFlags,
    allow_busy: o.AllowBusy = False,
    timeout: o.Timeout = None,
    no_suggest: NoSuggest = False,
    html: Html = None,
    snapshot: Snapshot = None,
    out: Out = None,
    json: o.Json = False,
) -> int:
    """Explain a job's peak: what is in memory then, and which line allocated it.

    Runs the job with the allocator's history on, then the changes that promise most. Where the job runs out
    of memory, that moment is explained.

    \b
    peakvram explain llama-3.1-8b --method qlora --gpu rtx-4090
    peakvram explain llama-3.1-8b --method full --gpu rtx-4090 --no-suggest --html why.html
    peakvram explain results/adhoc/records/my-record.json --out why

    Exit codes: 0 done (out of memory is a result), 1 the job failed, 2 usage, 3 unfit environment,
    124 time limit, 130 interrupted.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.explain.effects import find_effects  # noqa: PLC0415 - not for --help
    from profiler.explain.run import run_explained  # noqa: PLC0415 - not for --help
    from profiler.report.files.explain import ExplanationFiles, explanation_tree  # noqa: PLC0415 - not for --help

    spec, reasons = _read(job)
    timeout_s = read_timeout(timeout)
    files = ExplanationFiles(html=html, snapshot=snapshot, out=out)
    files.check()
    for reason in reasons:
        notice(reason)
    with progress(f"starting {spec.model}") as on_phase:
        run = run_explained(
            spec, timeout_s=timeout_s, allow_busy=allow_busy, on_phase=on_phase, snapshot_path=snapshot
        )
    effects = None
    if not no_suggest and run.explanation is not None and run.record.outcome.status in _EXPLAINED:
        effects = find_effects(
            run.record, ChangesTold(), settings=run.settings, timeout_s=timeout_s, allow_busy=allow_busy
        )
    told = [f"Wrote {path}" for path in files.write(run, effects)]
    if json:
        print_json_value(explanation_tree(run, effects))
        for line in told:
            notice(line)
    else:
        _show(run, effects, told=told)
    return exit_code_of(run.record.outcome.status)


_EXPLAINED = (OutcomeStatus.OK, OutcomeStatus.OOM)


def _read(job: JobFlags) -> tuple[JobSpec, tuple[str, ...]]:
    """The job of the flags; they change a record's as they change a file's."""
    named = job.values["model"]
    if not isinstance(named, str) or not named.endswith(".json"):
        return job.read()
    if job.config is not None:
        raise ConfigError("a record and --config both name a job", hint="leave out one of them")
    record = read_record(Path(named))
    without_record = replace(job, values={**job.values, "model": None})
    return without_record.read(data=record.spec.model_dump(mode="json"), source=named)


def _show(run: ExplainedRun, effects: tuple[Effect, ...] | None, *, told: list[str]) -> None:
    with data_output(pipe_width=_PIPE_WIDTH) as console:
        if run.explanation is None:
            show_record(console, run.record)
        else:
            show_explanation(console, run.record, run.explanation, effects=effects)
        for line in told:
            console.print(literal(line), soft_wrap=True)
