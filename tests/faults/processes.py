"""The processes of this namespace: all but the saboteur belong to a command."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_LOOK_AGAIN_S = 0.01
_OTHERS = {"git", "mount", "umount"}


def children_of(pid: int) -> list[int]:
    """Its living children, whichever of its threads started them, but for programs that are only asked."""
    found: list[int] = []
    with suppress(OSError):  # it has ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return [child for child in found if _is_alive(child) and _read(child, "comm").strip() not in _OTHERS]


def tree_of(pid: int) -> list[int]:
    """A process and all that descend from it, from the top."""
    found = [pid]
    for each in found:
        found += children_of(each)
    return found


def all_processes() -> list[int]:
    """All that live in this namespace but this one."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and _is_alive(pid)]


def send(pids: list[int], number: int) -> bool:
    """Send a signal to all of them. False if none lives any more."""
    sent = False
    for pid in pids:
        if _is_alive(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                sent = True
    return sent


def end_orphans(limit_s: float) -> list[str]:
    """Wait until all processes are gone; what is left is killed, and told by its command line."""
    deadline_s = time.monotonic() + limit_s
    while left := all_processes():
        reap()
        if time.monotonic() > deadline_s:
            told = [f"{pid} {_read(pid, 'cmdline')[:80]!r}" for pid in left]
            send(left, signal.SIGKILL)
            time.sleep(_LOOK_AGAIN_S)
            reap()
            return told
        time.sleep(_LOOK_AGAIN_S)
    reap()
    return []


def reap() -> None:
    """Wait for whatever has ended: this is the first process of its namespace, and gets all orphans."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def memory_bytes(pid: int) -> int:
    """How large a process's address space is; 0 if it is gone."""
    pages = _read(pid, "statm").split()
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def num_files(pid: int) -> int:
    """How many files a process has open; 0 if it is gone."""
    with suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def _is_alive(pid: int) -> bool:
    state = _read(pid, "stat").rpartition(")")[2].split()[:1]
    return bool(state) and state[0] not in "ZX"


def _read(pid: int, name: str) -> str:
    with suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    return ""
