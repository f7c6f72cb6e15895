"""`peakvram explain`: what is in memory at a job's peak, and which line allocated it."""

from __future__ import annotations

import json as json_format
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.job import read_job
from profiler.cli.run import exit_code_of, read_timeout
from profiler.errors import ConfigError
from profiler.files import check_directory, write_file
from profiler.records.schema import OutcomeStatus
from profiler.records.store import read_record
from profiler.report.base.describe import describe_job
from profiler.report.base.text import literal
from profiler.report.terminal.explain import show_explanation
from profiler.report.terminal.output import data_output, message_console, notice, print_json_value, progress
from profiler.report.terminal.record import show_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from profiler.errors import PeakvramError
    from profiler.explain.effects import Effect
    from profiler.explain.run import ExplainedRun
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

_PIPE_WIDTH = 200  # a line of code beside its figures

ModelOrRecord = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL|RECORD",
        help="A preset (`peakvram models`), a Hub id or a local directory; or a record (.json), for its job.",
    ),
]
NoSuggest = Annotated[
    bool, typer.Option("--no-suggest", metavar="", help="Do not look for changes that lower the peak.")
]
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


def explain(  # noqa: PLR0913 - one parameter a flag
    *,
    model: ModelOrRecord = None,
    weights: o.Weights = None,
    revision: o.Revision = None,
    method: o.Method = None,
    rank: o.Rank = None,
    alpha: o.Alpha = None,
    dropout: o.Dropout = None,
    targets: o.Targets = None,
    quant: o.Quant = None,
    double_quant: o.DoubleQuant = None,
    kbit_prepare: o.KbitPrepare = None,
    compute_dtype: o.ComputeDtype = None,
    dora: o.Dora = None,
    rslora: o.RsLora = None,
    trl_casting: o.TrlCasting = None,
    new_tokens: o.NewTokens = None,
    batch_size: o.BatchSize = None,
    seq_len: o.SeqLen = None,
    gradient_checkpointing: o.Checkpointing = None,
    reentrant: o.Reentrant = None,
    optimizer: o.Optimizer = None,
    precision: o.Precision = None,
    attention: o.Attention = None,
    attention_mask: o.AttentionMask = None,
    loop: o.Loop = None,
    steps: o.Steps = None,
    gpu: o.Gpu = None,
    gpu_memory: o.GpuMemory = None,
    alloc_conf: o.AllocConf = None,
    allow_busy: o.AllowBusy = False,
    timeout: o.Timeout = None,
    config: o.Config = None,
    set_: o.Set = None,
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
    given = {name: value for name, value in locals().items() if name not in _NOT_OF_THE_JOB}
    spec, reason = _read(given, config=config, settings=set_ or [])
    timeout_s = read_timeout(timeout)
    files = _Files(html=html, snapshot=snapshot, out=out)
    files.check()
    if reason:
        notice(reason)
    run = _run(spec, timeout_s=timeout_s, allow_busy=allow_busy, snapshot=snapshot)
    effects = None
    if not no_suggest and run.explanation is not None and run.record.outcome.status in _EXPLAINED:
        effects = _effects(run.record, timeout_s=timeout_s, allow_busy=allow_busy)
    written = files.write(run, effects)
    _deliver(run, effects, written=written, as_json=json)
    return exit_code_of(run.record.outcome.status)


_NOT_OF_THE_JOB = {
    *("config", "set_", "json", "allow_busy", "timeout", "no_suggest", "html", "snapshot", "out")
}
_EXPLAINED = (OutcomeStatus.OK, OutcomeStatus.OOM)


def _read(flags: Mapping[str, object], *, config: Path | None, settings: list[str]) -> tuple[JobSpec, str]:
    """The job of the flags; they change a record's as they change a file's."""
    named = flags["model"]
    if not isinstance(named, str) or not named.endswith(".json"):
        return read_job(config=config, flags=flags, settings=settings, environ=os.environ)
    if config is not None:
        raise ConfigError("a record and --config both name a job", hint="leave out one of them")
    record = read_record(Path(named))
    with tempfile.TemporaryDirectory(prefix="peakvram-explain-") as directory:
        path = Path(directory) / Path(named).name
        path.write_text(json_format.dumps(record.spec.model_dump(mode="json")))  # YAML reads JSON
        return read_job(config=path, flags={**flags, "model": None}, settings=settings, environ=os.environ)


class _Files:
    """What is written besides what is shown."""

    def __init__(self, *, html: Path | None, snapshot: Path | None, out: Path | None) -> None:
        self._pages = [path for path in (html, out / "explanation.html" if out else None) if path]
        self._tree = out / "explanation.json" if out else None
        self._snapshot = snapshot

    def check(self) -> None:
        """Finds out before the job is run what cannot be written."""
        for path in (*self._pages, *(path for path in (self._tree, self._snapshot) if path)):
            check_directory(path.parent)

    def write(self, run: ExplainedRun, effects: tuple[Effect, ...] | None) -> list[Path]:
        """Writes everything; what a run without an explanation does not have is left out."""
        written: list[Path] = []
        if self._pages and run.explanation is not None:
            from profiler.report.page.explain import explanation_page  # noqa: PLC0415 - not for --help

            page = explanation_page(run, effects)
            for path in self._pages:
                write_file(path, page)
                written.append(path)
        if self._tree is not None:
            write_file(self._tree, json_format.dumps(_tree(run, effects), indent=2) + "\n")
            written.append(self._tree)
        if self._snapshot is not None and self._snapshot.is_file():
            written.append(self._snapshot)
        return written


def _run(spec: JobSpec, *, timeout_s: float | None, allow_busy: bool, snapshot: Path | None) -> ExplainedRun:
    from profiler.explain.run import run_explained  # noqa: PLC0415 - `explain --help` needs none of it

    with progress(f"starting {spec.model}") as on_phase:
        return run_explained(
            spec, timeout_s=timeout_s, allow_busy=allow_busy, on_phase=on_phase, snapshot_path=snapshot
        )


def _effects(record: Record, *, timeout_s: float | None, allow_busy: bool) -> tuple[Effect, ...]:
    from profiler.explain.effects import find_effects  # noqa: PLC0415 - `explain --help` needs none of it

    with _changes_told() as events:
        return find_effects(record, events, timeout_s=timeout_s, allow_busy=allow_busy)


class _ChangesTold:
    """Tells on stderr which changes are run."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def started(self, spec: JobSpec, worker: str) -> None:  # noqa: ARG002 - which worker does not matter
        """A changed job has been started."""
        self._console.print(literal(f"trying {describe_job(spec)}"), soft_wrap=True)

    def finished(self, record: Record) -> None:
        """A changed job is over."""

    def refused(self, spec: JobSpec, error: PeakvramError) -> None:
        """A changed job cannot be run."""
        self._console.print(literal(f"not run: {describe_job(spec)}: {error}"), soft_wrap=True)


@contextmanager
def _changes_told() -> Iterator[_ChangesTold]:
    yield _ChangesTold(message_console())


def _tree(run: ExplainedRun, effects: tuple[Effect, ...] | None) -> dict[str, object]:
    return {
        "record": run.record.model_dump(mode="json"),
        "explanation": run.explanation.model_dump(mode="json") if run.explanation else None,
        "changes": None if effects is None else [effect.model_dump(mode="json") for effect in effects],
    }


def _deliver(
    run: ExplainedRun, effects: tuple[Effect, ...] | None, *, written: list[Path], as_json: bool
) -> None:
    told = [f"Wrote {path}" for path in written]
    if as_json:
        print_json_value(_tree(run, effects))
        for line in told:
            notice(line)
        return
    with data_output(pipe_width=_PIPE_WIDTH) as console:
        if run.explanation is None:
            show_record(console, run.record)
        else:
            show_explanation(console, run.record, run.explanation, effects=effects)
        for line in told:
            console.print(literal(line), soft_wrap=True)
