"""What a command has started, and which of it runs without the environment that shows it the card."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from profiler.follow.processes import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_PROC = Path("/proc")
_INTERVAL_S = 0.1
_MAX_SHARE = 0.02
"""At most this share of the time is spent on looking."""
_USERS_OF_CARDS = (b"/libtorch_cpu.so", b"/libc10.so", b"/libcudart.so", b"/libcuda.so")
"""A process that has mapped one of these would use a card that it saw."""


@dataclass(slots=True, kw_only=True)
class Started:
    """A process of the command, as it was last seen.

    Attributes:
        command: its command line.
        is_blind: whether it has loaded torch or CUDA outside the environment it should have.
    """

    command: tuple[str, ...] = ()
    is_blind: bool = False


class ProcessTree:
    """Looks at a command's processes while a `with` block lasts; one that lives a moment may go unseen."""

    def __init__(self, pid: int, wanted: Mapping[str, str]) -> None:
        """Watches `pid` and what comes of it.

        Args:
            pid: of the command.
            wanted: variables of its environment without which a process cannot be followed; the value of one
                may have more at its end.
        """
        self._wanted = wanted
        self._stop = Event()
        self._thread = Thread(target=self._run, name="peakvram-processes", daemon=True)
        self.started: dict[int, Started] = {pid: Started()}
        """By process id."""

    def __enter__(self) -> Self:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            begun_s = time.monotonic()
            self.look()
            pause_s = max(_INTERVAL_S, (time.monotonic() - begun_s) / _MAX_SHARE)

    def look(self) -> None:
        """Look once."""
        parents = _parents()
        for pid in sorted(parents):  # a parent most often has the lower number; else it is seen the next time
            if parents[pid] in self.started:
                self.started.setdefault(pid, Started())
        for pid, process in self.started.items():
            if pid in parents:
                with suppress(OSError):  # it has ended meanwhile, or it is another user's
                    self._look_at(pid, process)

    def _look_at(self, pid: int, process: Started) -> None:
        place = _PROC / str(pid)
        process.command = _parts((place / "cmdline").read_bytes()) or process.command
        variables = dict(part.partition("=")[::2] for part in _parts((place / "environ").read_bytes()))
        if not process.is_blind and _is_without(variables, self._wanted):
            maps = (place / "maps").read_bytes()
            process.is_blind = any(name in maps for name in _USERS_OF_CARDS)


def _is_without(variables: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    followed_by = variables.get(VARIABLE)
    if followed_by not in (None, wanted[VARIABLE]):
        return False  # by a run within this one
    return any(not variables.get(name, "").startswith(value) for name, value in wanted.items())


def _parts(text: bytes) -> tuple[str, ...]:
    return tuple(map(os.fsdecode, text.split(b"\0")[:-1]))


def _parents() -> dict[int, int]:
    """The parent of each process that there is."""
    parents = {}
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                after_name = (entry / "stat").read_bytes().rpartition(b")")[2]
                parents[int(entry.name)] = int(after_name.split()[1])
    return parents
