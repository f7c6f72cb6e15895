"""How much memory of one card is used, and by which processes, read through NVML."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# The number of the process-id namespace a Linux machine starts with (PROC_PID_INIT_INO, linux/proc_ns.h).
_FIRST_PID_NAMESPACE = "pid:[4026531836]"

_NOT_LISTED = (
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_NoPermission,
    pynvml.NVMLError_FunctionNotFound,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """A card's memory at one moment.

    Attributes:
        total_bytes: all of it, as NVML counts.
        used_bytes: what processes use, their CUDA contexts included. The driver's own reserve is left out
            where NVML can tell (release 510 and later).
    """

    total_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process with a context on a card.

    Attributes:
        pid: as NVML gives it; inside a container it may be the host's number.
        used_bytes: its memory on the card with its context, or None where the driver does not say: under WSL
            and Windows the system manages the memory, and some drivers answer 0 inside a container.
        name: its short name, or None where the number may be another namespace's or the process is gone.
        kind: `compute`, or `graphics` if it also or only draws (a desktop, a browser).
    """

    pid: int
    used_bytes: int | None
    name: str | None
    kind: Literal["compute", "graphics"]


class GpuReader:
    """Reads one card or slice. Raises `pynvml.NVMLError`; `profiler.hardware.nvml` explains those."""

    def __init__(self, handle: object) -> None:
        """`handle` is NVML's, and valid while NVML is open."""
        self._handle = handle
        self._memory_version: int | None = pynvml.nvmlMemory_v2
        self._total_bytes: int | None = None
        self._listers: dict[str, Callable[[object], Iterable[Any]]] = {}

    def memory(self) -> GpuMemory:
        """The card's memory now.

        The first version of NVML's call counts the driver's reserve (hundreds of MiB) as used, so the second
        is asked wherever it works; the first reading settles which, so that readings are comparable.
        """
        try:
            info = pynvml.nvmlDeviceGetMemoryInfo(self._handle, self._memory_version)
        except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported, pynvml.NVMLError_Unknown):
            # Absent before release 510; seen to answer "unknown error" under WSL with release 516.
            if self._memory_version is None:
                raise
            self._memory_version = None
            info = pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        return GpuMemory(total_bytes=int(info.total), used_bytes=int(info.used))

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """The processes on the card, by process id; None where the driver will not list them."""
        try:
            compute = dict(self._running("Compute"))
        except _NOT_LISTED:
            return None
        try:
            graphics = dict(self._running("Graphics"))
        except _NOT_LISTED:  # cards without a graphics side
            graphics = {}
        return tuple(
            GpuProcess(
                pid=pid,
                used_bytes=used,
                name=_name(pid),
                kind="graphics" if pid in graphics else "compute",
            )
            for pid, used in sorted((graphics | compute).items())
        )

    def process_bytes(self) -> dict[int, int]:
        """What each compute process uses, by process id; without those the driver does not tell of."""
        try:
            return {pid: used for pid, used in self._running("Compute") if used is not None}
        except _NOT_LISTED:
            return {}

    def _running(self, kind: str) -> Iterator[tuple[int, int | None]]:
        """Process ids and bytes; a figure of 0, or above the card's own memory, is none."""
        if self._total_bytes is None:
            self._total_bytes = self.memory().total_bytes
        for process in self._lister(kind)(self._handle):
            used = process.usedGpuMemory
            yield int(process.pid), int(used) if used and used <= self._total_bytes else None

    def _lister(self, kind: str) -> Callable[[object], Iterable[Any]]:
        """The version of NVML's call that works here.

        The second is preferred: drivers of release 530 wrote the third one's structure longer than those
        before and after, and a reader cannot tell.
        """
        if kind not in self._listers:
            lister = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses_v2")
            try:
                lister(self._handle)
            except pynvml.NVMLError_FunctionNotFound:
                lister = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses_v3")
            self._listers[kind] = lister
        return self._listers[kind]


@cache
def sees_host_pids() -> bool:
    """Whether process ids here are the machine's own, so that NVML's numbers mean what they mean to us."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _FIRST_PID_NAMESPACE
    except OSError:
        return sys.platform != "linux"


@cache
def is_wsl() -> bool:
    """Whether this is Linux inside Windows (WSL), where Windows manages the card's memory."""
    try:
        return "microsoft" in Path("/proc/version").read_text(encoding="utf-8").lower()
    except OSError:
        return False


def _name(pid: int) -> str | None:
    if not sees_host_pids():
        return None
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
