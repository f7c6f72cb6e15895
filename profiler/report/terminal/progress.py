"""How a sweep goes on, on stderr: a living line on a terminal, a plain one now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiler.execute.options import FAILED, SweepSummary
from profiler.report.base.describe import describe_job
from profiler.report.base.text import literal
from profiler.report.base.verdict import outcome_label
from profiler.report.terminal.output import message_console
from profiler.text import in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from profiler.errors import PeakvramError
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

_WINDOW = 50  # jobs that the rate is told from: later ones are larger, so the first minute says little
_NUM_LINES = 50  # about so many plain lines a sweep
_MIN_LINE_S = 1.0
_MAX_FAILURES = 10


@dataclass(slots=True)
class Tally:
    """How many jobs of a sweep have ended, how, and how fast; `clock` gives seconds."""

    num_jobs: int
    clock: Callable[[], float] = time.monotonic
    summary: SweepSummary = field(default_factory=SweepSummary)
    _ended_s: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW + 1))

    def __post_init__(self) -> None:
        """The sweep begins now."""
        self._ended_s.append(self.clock())

    @property
    def num_ended(self) -> int:
        """How many have ended, one way or another."""
        return self.summary.num_written + self.summary.num_refused

    def add(self, record: Record) -> None:
        """Counts a job that has its record."""
        self.summary.add(record)
        self._ended_s.append(self.clock())

    def add_refused(self) -> None:
        """Counts a job that could not be run."""
        self.summary.num_refused += 1
        self._ended_s.append(self.clock())

    def line(self) -> str:
        """`12/40 done, 9 ok, 2 OOM, 1 failed, 3.1 jobs/s, 9 s left`."""
        so_far = self.summary
        parts = [f"{self.num_ended}/{self.num_jobs} done", f"{so_far.num_done} ok", f"{so_far.num_oom} OOM"]
        parts.append(f"{so_far.num_failed + so_far.num_refused} failed")
        rate = self._jobs_per_s()
        if rate is not None:
            parts.append(f"{rate:.1f} jobs/s" if rate >= 1 else f"{60 * rate:.1f} jobs/min")
            parts.append(f"{format_duration((self.num_jobs - self.num_ended) / rate)} left")
        return ", ".join(parts)

    def _jobs_per_s(self) -> float | None:
        took_s = self.clock() - self._ended_s[0]
        num = len(self._ended_s) - 1
        return num / took_s if num and took_s > 0 else None


class Progress:
    """Tells of a sweep's events: `show` is given the tally's line whenever it has changed."""

    def __init__(self, tally: Tally, console: Console, show: Callable[[], None]) -> None:
        """Counts into `tally`, and says on `console` what failed."""
        self._tally, self._console, self._show = tally, console, show
        self._said: set[str] = set()

    def started(self, spec: JobSpec, worker: str) -> None:  # noqa: ARG002 - the line tells of what has ended
        """A job has been started."""
        self._show()

    def finished(self, record: Record) -> None:
        """A job is over."""
        self._tally.add(record)
        if record.outcome.status in FAILED:
            reason = in_one_line(record.outcome.message)
            self._say(f"{outcome_label(record.outcome)}: {describe_job(record.spec)}: {reason}", reason)
        self._show()

    def refused(self, spec: JobSpec, error: PeakvramError) -> None:
        """A job could not be run."""
        self._tally.add_refused()
        self._say(f"not run: {describe_job(spec)}: {error}", str(error))
        self._show()

    def _say(self, line: str, reason: str) -> None:
        """Says what failed, once a reason, and not without end."""
        if reason in self._said or len(self._said) >= _MAX_FAILURES:
            return
        self._said.add(reason)
        self._console.print(literal(line), soft_wrap=True)


@contextmanager
def sweep_progress(num_jobs: int, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Shows how a sweep of so many jobs goes on, until the block ends."""
    console, tally = message_console(), Tally(num_jobs, clock)
    if not console.is_terminal:
        yield Progress(tally, console, _plain_lines(tally, console))
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - not for --help
    from rich.progress import Progress as Bar  # noqa: PLC0415 - not where nobody watches

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(tally.line(), total=num_jobs)
        yield Progress(
            tally, console, lambda: bar.update(task, completed=tally.num_ended, description=tally.line())
        )


def format_duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest_s = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _plain_lines(tally: Tally, console: Console) -> Callable[[], None]:
    """Prints a line every so many jobs, at most one a second."""
    every = max(1, tally.num_jobs // _NUM_LINES)
    last_s, last_ended = tally.clock(), 0

    def show() -> None:
        nonlocal last_s, last_ended
        now_s = tally.clock()
        if tally.num_ended - last_ended >= every and now_s - last_s >= _MIN_LINE_S:
            last_s, last_ended = now_s, tally.num_ended
            console.print(literal(tally.line()), soft_wrap=True)

    return show
