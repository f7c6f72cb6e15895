"""Where output goes: data to stdout, progress and messages to stderr."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from profiler.errors import EnvironmentUnfitError
from profiler.report.base.text import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from profiler.records.schema import PhaseReading
    from profiler.records.store import RecordStore

_MAX_PROBLEMS = 10
_HIDDEN = re.compile(r"[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_PIPE_WIDTH = 120  # no terminal to fit: wide enough that no table of ours is squeezed


@contextmanager
def data_output(*, pipe_width: int = _PIPE_WIDTH) -> Iterator[Console]:
    """The console for what a command is asked for: stdout, in plain text where it is no terminal.

    A reader that goes away (`| head`) ends the command quietly with exit code 1.

    Raises:
        EnvironmentUnfitError: if stdout takes no more: its disk is full, say.
    """
    try:
        yield _console(is_stderr=False, pipe_width=pipe_width)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        raise typer.Exit(1) from None
    except OSError as error:
        _silence_stdout()
        raise EnvironmentUnfitError(
            f"cannot write to stdout: {(error.strerror or 'it is closed').lower()}"
        ) from None


def print_json(text: str) -> None:
    """Writes JSON to stdout as it is: no wrapping, no colour, and no character that a terminal acts on.

    JSON escapes control characters itself, but for a few newer ones, which are escaped here as it does.
    """
    visible = _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    with data_output():
        sys.stdout.write(visible.rstrip("\n") + "\n")


def print_json_value(value: object) -> None:
    """Writes plain data to stdout as indented JSON."""
    print_json(json.dumps(value, indent=2))


def print_written(paths: Sequence[Path], *, as_json: bool) -> None:
    """Says which files a command has written."""
    if as_json:
        print_json_value([str(path) for path in paths])
        return
    with data_output() as console:
        for path in paths:
            console.print(literal(f"Wrote {path}"), soft_wrap=True)


def message_console() -> Console:
    """The console for progress, notices and errors."""
    return _console(is_stderr=True)


def notice(text: str) -> None:
    """Says something to the person at the terminal, on stderr."""
    message_console().print(literal(text), soft_wrap=True)


def report_problems(store: RecordStore) -> None:
    """Says which files of a study were skipped, and why; they are left where they are."""
    problems = store.problems()
    for problem in problems[:_MAX_PROBLEMS]:
        notice(f"skipped {problem.path}: {problem.reason}")
    if len(problems) > _MAX_PROBLEMS:
        notice(f"skipped {len(problems) - _MAX_PROBLEMS} more files that are no records")


@contextmanager
def progress(first: str) -> Iterator[Callable[[PhaseReading], None]]:
    """Shows on stderr, in one living line, which phase ended last; nothing where it is no terminal."""
    console = message_console()
    if not console.is_terminal:
        yield lambda _reading: None
        return
    with console.status(literal(first)) as status:
        yield lambda reading: status.update(literal(_progress_line(reading)))


def _progress_line(reading: PhaseReading) -> str:
    return f"{reading.place} done"


def _console(*, is_stderr: bool, pipe_width: int = _PIPE_WIDTH) -> Console:
    stream = sys.stderr if is_stderr else sys.stdout
    width = None if stream.isatty() else pipe_width
    return Console(stderr=is_stderr, width=width, highlight=False, markup=False, emoji=False)


def _silence_stdout() -> None:
    """Lets what stdout still holds go nowhere: Python writes it once more as it exits."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
