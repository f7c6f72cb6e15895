"""`peakvram verify`: a real card against its virtual twin."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o
from profiler.cli.run import read_timeout
from profiler.execute.study import RESULTS, read_study
from profiler.files import check_directory, write_file
from profiler.report.base.text import literal
from profiler.report.base.twins import job_label
from profiler.report.terminal.output import data_output, message_console, notice, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.status import Status

    from profiler.jobs.job import JobSpec
    from profiler.records.schema import PhaseReading
    from profiler.verify.parting import JobComparison

_PIPE_WIDTH = 200  # a job's settings in a line or two

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="The jobs: a sweep file, or the name of a shipped one (default: a short list)",
        show_default=False,
    ),
]
RealGpu = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="The real card: real, or real:INDEX (default: the first that is free)",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The folder (default results/verify-CARD)")
]
Hostname = Annotated[bool, o.switch("--with-hostname", "Name this machine in the records.")]


def verify(  # noqa: PLR0913 - one parameter a flag
    *,
    file: File = Path("verify"),
    gpu: RealGpu = "real",
    set_: o.SweepSet = None,
    out: Out = None,
    timeout: o.Timeout = None,
    allow_busy: o.AllowBusy = False,
    with_hostname: Hostname = False,
    json: o.Json = False,
) -> int:
    """Compare a real card with its virtual twin, phase by phase and event by event.

    Runs each job on the real card and on a virtual one with the same memory and multiprocessors, and shows
    the first event of the allocator that differs. The folder it writes can be contributed as it is.

    \b
    peakvram verify
    peakvram verify my-jobs.yaml --gpu real:1 --out results/verify-my-card

    Exit codes: 0 every peak is the same, 1 some job differs or failed, 2 usage, 3 there is no real GPU or it
    is in use, 130 interrupted.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.report.markdown.comparisons import twins_readme  # noqa: PLC0415 - not for --help
    from profiler.report.terminal.comparisons import show_twins  # noqa: PLC0415 - not for --help
    from profiler.verify.folder import ComparisonFolder  # noqa: PLC0415 - not for --help
    from profiler.verify.parting import Likeness  # noqa: PLC0415 - not for --help
    from profiler.verify.run import twin_cards, verify_jobs  # noqa: PLC0415 - not for --help

    timeout_s = read_timeout(timeout)
    study = read_study(file, out=out, gpu=gpu, settings=set_ or [])
    with twin_cards(gpu, allow_busy=allow_busy) as cards:
        directory = out or RESULTS / f"verify-{cards.twin.gpu.id}"
        check_directory(directory)
        for reason in study.reasons:
            notice(reason)
        folder = ComparisonFolder(directory, cards, with_hostname=with_hostname)
        with _events(len(study.jobs)) as events:
            for job in verify_jobs(study.jobs, cards, events, timeout_s=timeout_s, allow_busy=allow_busy):
                events.compared(folder.add(job))
                write_file(directory / "README.md", twins_readme(folder.comparison))
    if json:
        print_json(folder.comparison.model_dump_json(indent=2))
        notice(f"Wrote {directory}")
    else:
        with data_output(pipe_width=_PIPE_WIDTH) as console:
            show_twins(console, folder.comparison)
            console.print()
            console.print(literal(f"Wrote {directory}"), soft_wrap=True)
    failed = (Likeness.DIFFERS, Likeness.NOT_COMPARED)
    return 1 if any(job.verdict in failed for job in folder.comparison.jobs) else 0


class _Progress:
    """Tells on stderr which job is run where; in one living line on a terminal."""

    def __init__(self, num_jobs: int, console: Console, status: Status | None) -> None:
        self._num_jobs = num_jobs
        self._console = console
        self._status = status
        self._num_compared = 0
        self._job = ""

    def started(self, spec: JobSpec, side: str) -> None:
        """A side of a job has been started."""
        card = "real card" if side == "real" else "virtual twin"
        self._job = f"{self._num_compared + 1}/{self._num_jobs} {job_label(spec)}, on the {card}"
        if self._status is None:
            self._console.print(literal(self._job), soft_wrap=True)
        else:
            self._status.update(literal(self._job))

    def phase_ended(self, reading: PhaseReading) -> None:
        """A phase is over."""
        if self._status is not None:
            self._status.update(literal(f"{self._job}: {reading.name} done"))

    def compared(self, job: JobComparison) -> None:
        """A job has been run on both."""
        self._num_compared += 1
        told = f"{job.verdict}: {job.reason}" if job.reason else str(job.verdict)
        self._console.print(literal(f"{job_label(job.spec)}: {told}"), soft_wrap=True)


@contextmanager
def _events(num_jobs: int) -> Iterator[_Progress]:
    console = message_console()
    if not console.is_terminal:
        yield _Progress(num_jobs, console, None)
        return
    with console.status("") as status:
        yield _Progress(num_jobs, console, status)
