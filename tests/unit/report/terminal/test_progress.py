from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.records.schema import Outcome, OutcomeStatus, Record
from profiler.report.terminal.progress import Tally, format_duration, sweep_progress
from tests.builders import OK, ROOT, a_job, a_record

if TYPE_CHECKING:
    from collections.abc import Callable

INFERRED = Outcome(status=OutcomeStatus.OOM, inferred_from="0123456789abcdef")


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def ended(outcome: Outcome = OK) -> Record:
    return a_record(outcome=outcome)


def error(message: str) -> Record:
    return ended(Outcome(status=OutcomeStatus.ERROR, message=message))


def test_a_tally_counts_every_way_to_end() -> None:
    clock = Clock()
    tally = Tally(10, clock)
    assert tally.line() == "0/10 done, 0 ok, 0 OOM, 0 failed"
    for record in (ended(), ended(INFERRED), error("x"), ended(Outcome(status=OutcomeStatus.TIMEOUT))):
        clock.now_s += 0.5
        tally.add(record)
    tally.add_refused()
    assert tally.line() == "5/10 done, 1 ok, 1 OOM, 3 failed, 2.5 jobs/s, 2 s left"
    assert tally.summary.num_inferred == 1


def test_the_rate_is_that_of_the_latest_jobs() -> None:
    clock = Clock()
    tally = Tally(1000, clock)
    for _ in range(500):
        clock.now_s += 0.1
        tally.add(ended())
    for _ in range(60):
        clock.now_s += 30
        tally.add(ended())
    assert "2.0 jobs/min, 3 h 40 min left" in tally.line()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_a_duration_is_told_in_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def lines_of(
    num_jobs: int, capsys: pytest.CaptureFixture[str], *, step_s: float, record: Callable[[], Record] = ended
) -> list[str]:
    clock = Clock()
    with sweep_progress(num_jobs, clock=clock) as events:
        for _ in range(num_jobs):
            events.started(a_job(), "virtual 0")
            clock.now_s += step_s
            events.finished(record())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    return captured.err.splitlines()


def test_without_a_terminal_there_are_some_fifty_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(1000, capsys, step_s=10)
    assert len(lines) == 50
    assert lines[0] == "20/1000 done, 20 ok, 0 OOM, 0 failed, 6.0 jobs/min, 2 h 43 min left"


def test_without_a_terminal_there_is_at_most_a_line_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(lines_of(100, capsys, step_s=0.01)) <= 1
    assert len(lines_of(100, capsys, step_s=0.1)) <= 10


def test_the_same_failure_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(
        100, capsys, step_s=0.001, record=lambda: error("trace\nRuntimeError: bad \x1b[31mshape")
    )
    assert len(lines) == 1
    assert lines[0].endswith("RuntimeError: bad \\x1b[31mshape")


def test_failures_are_not_said_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = iter(range(1000))
    lines = lines_of(100, capsys, step_s=0.001, record=lambda: error(f"failure {next(numbers)}"))
    assert len(lines) == 10


def test_a_refusal_is_said_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with sweep_progress(2, clock=Clock()) as events:
        events.refused(a_job(), ConfigError("there is no such card", hint="see peakvram gpus"))
    assert "there is no such card (see peakvram gpus)" in capsys.readouterr().err


def test_a_terminal_gets_one_living_line_that_goes_away() -> None:
    script = """
from profiler.report.terminal.progress import sweep_progress
from tests.builders import a_job, a_record
with sweep_progress(3) as events:
    for _ in range(3):
        events.started(a_job(), "virtual 0")
        events.finished(a_record())
print("after")
"""
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env=environ,
    ):
        os.close(follower)
        chunks = []
        while True:
            try:
                chunks.append(os.read(leader, 4096))
            except OSError:  # Linux's answer once no process holds the other end
                break
    os.close(leader)
    written = b"".join(chunks).decode()
    assert "3/3 done, 3 ok, 0 OOM, 0 failed" in written
    assert "\x1b[2K" in written.rpartition("3/3 done")[2]
    assert written.rstrip().endswith("after")
