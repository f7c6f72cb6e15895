"""What a job takes of the host's memory: measured beside a real card, computed beside a virtual one.

A virtual card's job copies no logits and no weights to the host and reads no checkpoint, so its process says
nothing of a real one's. What would be there is counted instead, where it would come to be.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.records.schema import HostMemory

if TYPE_CHECKING:
    from profiler.virtual.state import StateLayout

_RESET_PEAK = "5"
"""proc_pid_clear_refs(5): the peak resident set (VmHWM) becomes the resident set of now."""
_STATUS, _CLEAR_REFS = "status", "clear_refs"


class HostMeter:
    """The host's memory, and its peak since the last reset; not known where nothing tells."""

    def reset_peak(self) -> None:
        """Begin a new span."""

    def peak(self) -> HostMemory | None:
        """The highest figures of the span so far."""
        return None

    def let_go(self) -> None:
        """What the job has copied to the host is gone."""

    @property
    def problem(self) -> str:
        """Why figures are missing, where it was not to be expected; else empty."""
        return ""


class MeasuredHost(HostMeter):
    """This process's resident set, whose peak the kernel keeps: nothing is sampled, so none is missed.

    It counts what lies in memory of all that the process has mapped: of its libraries, of the checkpoint
    while it is read. Where the kernel does not let a peak begin anew (a kernel without page monitoring, a
    `/proc` that is read only) no phase has a figure, for each would be of all phases before.
    """

    def __init__(self, directory: Path = Path("/proc/self")) -> None:
        """Reads from the process's directory in `/proc`."""
        self._directory = directory
        self._problem = ""

    def reset_peak(self) -> None:
        """Begin a new span."""
        try:
            (self._directory / _CLEAR_REFS).write_text(_RESET_PEAK)
        except OSError as error:
            self._problem = f"{self._directory / _CLEAR_REFS}: {error.strerror}"

    def peak(self) -> HostMemory | None:
        """The largest resident set of the span."""
        if self._problem:
            return None
        found = re.search(r"^VmHWM:\s+(\d+) kB$", (self._directory / _STATUS).read_text(), re.MULTILINE)
        return None if found is None else HostMemory(source="measured", peak_bytes=int(found[1]) * 1024)

    @property
    def problem(self) -> str:
        """What the kernel refused."""
        return self._problem


class ComputedHost(HostMeter):
    """What a real run holds on the host, as the job says that it takes it and lets it go.

    Offloaded state is managed memory, which the virtual card counts itself.
    """

    def __init__(self, state: StateLayout | None = None) -> None:
        """Nothing is held.

        Args:
            state: the live state of the virtual machine; None where there is no managed memory.
        """
        self._state = state
        self._copied_bytes = self._mapped_bytes = 0
        self._peak = (0, 0)
        self._managed_before_bytes = 0
        self.reset_peak()

    def reset_peak(self) -> None:
        """Begin a new span."""
        self._peak = (0, 0)
        self._managed_before_bytes = self._managed_peak_bytes()
        self._look()

    def peak(self) -> HostMemory:
        """The most of the span, and how much of that was mapped."""
        self._look()
        total_bytes, mapped_bytes = self._peak
        # The machine's own peak is of all spans: where it rose it is this one's.
        managed_bytes = self._managed_peak_bytes()
        if managed_bytes > self._managed_before_bytes:
            total_bytes = max(total_bytes, managed_bytes + self._copied_bytes + self._mapped_bytes)
        return HostMemory(source="computed", peak_bytes=total_bytes, mapped_bytes=mapped_bytes)

    def pass_through(self, size_bytes: int) -> None:
        """So many bytes more lie in the process's memory for a moment."""
        self.take(size_bytes)
        self.take(-size_bytes)

    def take(self, size_bytes: int) -> None:
        """So many bytes more lie in the process's memory from now on; fewer if negative."""
        self._copied_bytes += size_bytes
        self._look()

    def let_go(self) -> None:
        """What the job has copied to the host is gone."""
        self._copied_bytes = 0

    def map(self, size_bytes: int) -> None:
        """So many bytes more of files are mapped from now on; fewer if negative."""
        self._mapped_bytes += size_bytes
        self._look()

    def _look(self) -> None:
        managed_bytes = 0 if self._state is None else int(self._state.managed_bytes)
        total_bytes = self._copied_bytes + self._mapped_bytes + managed_bytes
        self._peak = max(self._peak, (total_bytes, self._mapped_bytes))

    def _managed_peak_bytes(self) -> int:
        return 0 if self._state is None else int(self._state.managed_peak_bytes)
