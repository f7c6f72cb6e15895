"""Where output goes: data to stdout, progress and messages to stderr."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from profiler.report.text import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiler.records.schema import PhaseReading

_PIPE_WIDTH = 120  # no terminal to fit: wide enough that no table of ours is squeezed


def data_console() -> Console:
    """The console for what a command is asked for; plain text where stdout is no terminal."""
    return _console(is_stderr=False)


def message_console() -> Console:
    """The console for progress, notices and errors."""
    return _console(is_stderr=True)


def print_json(text: str) -> None:
    """Writes JSON to stdout exactly as it is: no wrapping, no colour."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def print_json_value(value: object) -> None:
    """Writes plain data to stdout as indented JSON."""
    print_json(json.dumps(value, indent=2))


def notice(text: str) -> None:
    """Says something to the person at the terminal, on stderr."""
    message_console().print(literal(text), soft_wrap=True)


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
    where = reading.name if reading.step is None else f"step {reading.step}, {reading.name}"
    return f"{where} done"


def _console(*, is_stderr: bool) -> Console:
    stream = sys.stderr if is_stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=is_stderr, width=width, highlight=False, markup=False, emoji=False)
