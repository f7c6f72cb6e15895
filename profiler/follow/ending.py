"""How a process ends, as far as it can tell itself: by returning, by an exception or by `os._exit`.

Python tells nobody which exit status `SystemExit` asked for. The C library does: it hands the status to what
`on_exit` has registered, after Python has gone. So `fputc` is registered, and writes it to a file as a byte.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

from profiler.process.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BY_EXEC = "os.exec"
_UNBUFFERED = 2
"""`_IONBF` of glibc's stdio.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnd:
    """The end of a process.

    Attributes:
        kind: `exit` where the interpreter ended, `os._exit` where the process ended itself at once, `os.exec`
            where another program took its place.
        error: the exception that ended it, in one line; None without one.
        is_out_of_memory: whether that was the card's memory.
    """

    kind: str
    error: str | None
    is_out_of_memory: bool


class ExitStatus:
    """The file that this process's exit status goes to, a byte; empty where a signal kills the process."""

    def __init__(self) -> None:
        """No file yet."""
        self._path: Path | None = None
        self._file: int | None = None
        self._library = ctypes.CDLL(None)
        for name in ("fopen", "freopen"):
            getattr(self._library, name).restype = ctypes.c_void_p

    def write_to(self, path: Path) -> None:
        """Have it written there, and no longer elsewhere: a forked process calls this once more.

        Raises:
            OSError: the file cannot be made.
        """
        opened = ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(b"we")
        if self._file is not None:
            self._library.freopen(*opened, ctypes.c_void_p(self._file))
        elif (file := self._library.fopen(*opened)) is None:
            raise OSError(f"cannot write {path}")
        else:
            self._library.setvbuf(ctypes.c_void_p(file), None, _UNBUFFERED, ctypes.c_size_t(0))
            self._library.on_exit(self._library.fputc, ctypes.c_void_p(file))
            self._file = file
        self._path = path

    def write(self, status: int) -> None:
        """Write it now, for a process that ends without its C library's knowledge."""
        if self._path is not None:
            self._path.write_bytes(bytes([status & 0xFF]))


def watch_end(tell: Callable[[ProcessEnd], None], file: ExitStatus) -> None:
    """Have `tell` called once, as late as this process can still speak.

    A process that a signal kills tells nothing.
    """
    really_exit = os._exit

    def exit_at_once(status: int) -> NoReturn:
        tell(_end("os._exit"))
        file.write(status)
        really_exit(status)

    os._exit = exit_at_once
    os.execv = _telling_before(os.execv, tell)
    os.execve = _telling_before(os.execve, tell)  # all others of `os` call one of these two
    atexit.register(lambda: tell(_end("exit")))


def _telling_before(execute: Callable[..., Any], tell: Callable[[ProcessEnd], None]) -> Any:
    @wraps(execute)
    def tell_then_execute(*args: Any, **options: Any) -> None:
        tell(ProcessEnd(kind=BY_EXEC, error=None, is_out_of_memory=False))
        execute(*args, **options)

    return tell_then_execute


def _end(kind: str) -> ProcessEnd:
    # Python keeps the exception that it printed last: the one that ended the script, if one did.
    error: BaseException | None = getattr(sys, "last_value", None)
    return ProcessEnd(
        kind=kind,
        error=None if error is None else f"{type(error).__name__}: {error}".removesuffix(": "),
        is_out_of_memory=is_out_of_memory(error),
    )
