"""The processes of one run: found by a variable of their environment, wherever they are in the tree."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "PEAKVRAM_FOLLOW"
_PROC = Path("/proc")
_POLL_S = 0.05


def find_processes(directory: Path) -> list[int]:
    """The process ids of what still runs in an environment whose `PEAKVRAM_FOLLOW` is `directory`."""
    wanted = f"{VARIABLE}={directory}".encode()
    found = []
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # it ended meanwhile, or it is another user's
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def wait_for_processes(directory: Path, *, grace_s: float) -> list[int]:
    """Wait until none is left, but no longer than `grace_s`; returns those that are."""
    deadline_s = time.monotonic() + grace_s
    while (left := find_processes(directory)) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return left


def end_processes(directory: Path, *, grace_s: float) -> None:
    """Ask all of them to end, and kill those that have not after `grace_s`."""
    _send(directory, signal.SIGTERM)
    if wait_for_processes(directory, grace_s=grace_s):
        _send(directory, signal.SIGKILL)
        wait_for_processes(directory, grace_s=grace_s)


def _send(directory: Path, number: signal.Signals) -> None:
    for pid in find_processes(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
