"""Calls of the C library that are made to fail, or that a process is killed at (`shim.c`)."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

_kept: list[mmap.mmap] = []
"""What preloaded calls look at, to the end of the process."""

SOURCE = Path(__file__).with_name("shim.c")


def build_shim(directory: Path) -> Path:
    """Compile it into `directory`; its path, to be preloaded."""
    library = directory / "libfaults.so"
    compiler = [next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), "")]
    if not compiler[0]:
        assert importlib.util.find_spec("ziglang") is not None, "no C compiler: pip install ziglang"
        compiler = [sys.executable, "-m", "ziglang", "cc"]
    command = [*compiler, "-O1", "-fPIC", "-shared", str(SOURCE), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True, env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(directory / "zig")})
    return library


class _Plan(ctypes.Structure):
    """`struct plan` of `shim.c`."""

    _fields_ = (
        ("countdown", ctypes.c_int),
        ("error", ctypes.c_int),
        ("pid", ctypes.c_int),
        ("saboteur", ctypes.c_int),
        ("hit_pid", ctypes.c_int),
        ("call", ctypes.c_char * 16),
        ("path", ctypes.c_char * 256),
    )


class Calls:
    """The calls that this process's forks make, and those they make."""

    def __init__(self) -> None:
        """None fails yet."""
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._plan = _Plan.from_buffer(self._page)
        self._plan.saboteur = os.getpid()
        _kept.append(self._page)
        ctypes.CDLL(None).faults_use(ctypes.byref(self._plan))

    def fail(self, error: int, *, after: int, pid: int = 0) -> None:
        """One call fails, once: the one after so many others.

        Args:
            error: with this `errno`; negative for a signal that its process gets in place of it.
            after: how many calls on files go before it.
            pid: of the process whose calls count; 0 for all.
        """
        self._plan.countdown = 0
        self._plan.error, self._plan.pid, self._plan.hit_pid = error, pid, 0
        self._plan.countdown = after + 1

    def stop(self) -> None:
        """None fails any more."""
        self._plan.countdown = 0

    @property
    def hit(self) -> tuple[int, str] | None:
        """The process that has met the failure and the call, once one has."""
        plan = self._plan
        return (plan.hit_pid, f"{plan.call.decode()} {plan.path.decode()}") if plan.hit_pid else None
