"""What the CUDA allocator does, event by event and phase by phase: torch's own history, made compact.

Torch keeps the events in a ring, with the Python stack of each. At every phase's end the ring is read, its
addresses replaced by the order of allocation, and the result written; then it starts anew. So memory stays
bounded, and a job that is killed leaves every phase it completed.
"""

from __future__ import annotations

import sysconfig
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from profiler.records.history import KINDS, Event, EventKind, PhaseEvents, Stack, append_phase
from profiler.resources import PACKAGE_ROOT
from profiler.virtual.torch_private import HISTORY, RECORD_HISTORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from profiler.records.schema import PhasePlace

MAX_ENTRIES = 1_000_000
"""Entries of torch's history that one run may make. Torch says that each takes several KB of host memory
while its phase lasts; a whole run of three steps of an 8B model
makes some tens of thousands."""

_MAX_FRAMES = 10
_OF_SEGMENTS = frozenset(
    {EventKind.SEGMENT_ALLOC, EventKind.SEGMENT_FREE, EventKind.SEGMENT_MAP, EventKind.SEGMENT_UNMAP}
)
_BEGINNINGS = frozenset({EventKind.ALLOC, EventKind.SEGMENT_ALLOC, EventKind.SEGMENT_MAP})
# What keeps true values on a virtual card stands between the library's line and the allocation.
_HIDDEN = ("profiler/virtual/", "torch/_ops.py")


class HistoryRecorder:
    """Writes the history of the current device to a file, a line a phase."""

    def __init__(self, path: Path, *, max_entries: int = MAX_ENTRIES) -> None:
        """Nothing is recorded before the first phase has ended.

        Args:
            path: the file.
            max_entries: after so many the history is full, and says so.
        """
        self._path = path
        self._ring = Ring(max_entries)
        self._names = Names()
        self._stacks: dict[Stack, int] = {}

    def end_phase(self, place: PhasePlace) -> None:
        """Write what happened since the last phase's end. The first phase, the context's, has no events."""
        num_known = len(self._stacks)
        events = tuple(self._events(self._ring.read()))
        phase = PhaseEvents(
            **place._asdict(),
            events=events,
            new_stacks=tuple(self._stacks)[num_known:],
            is_truncated=self._ring.is_full,
        )
        append_phase(self._path, phase)
        self._ring.begin()

    def _events(self, entries: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
        for kind, entry in _known(entries):
            number = self._names.number(kind, entry.get("addr"))
            yield Event(kind, int(entry["size"]), number, self._stack(entry["frames"]))

    def _stack(self, frames: Iterable[Mapping[str, Any]]) -> int:
        lines = (
            f"{place}:{frame['line']} {frame['name']}"
            for frame in frames
            if not (place := short_name(frame["filename"])).startswith(_HIDDEN)
        )
        stack = tuple(line for line, _ in zip(lines, range(_MAX_FRAMES), strict=False))
        return self._stacks.setdefault(stack, len(self._stacks))


class Ring:
    """torch's own history of the current device, which keeps the last events only.

    Attributes:
        is_full: whether more came than was wanted: it has lost the first ones, and the order of blocks.
    """

    def __init__(self, max_entries: int, *, has_stacks: bool = True) -> None:
        """Not begun yet: that would make the CUDA context."""
        self.is_full = False
        self._context = "all" if has_stacks else None
        self._room = max_entries
        self._is_begun = False

    def read(self) -> list[dict[str, Any]]:
        """What came since it was begun; nothing any more once it is full."""
        if not self._is_begun or self.is_full:
            return []
        traces: list[list[dict[str, Any]]] = HISTORY.find()()["device_traces"]
        entries = traces[torch.cuda.current_device()]
        if len(entries) > self._room:
            self.is_full = True
            RECORD_HISTORY.find()(None)
            return []
        self._room -= len(entries)
        return entries

    def begin(self) -> None:
        """Begin anew, unless it is full: turning it off is what forgets the old one, in every release."""
        if not self.is_full:
            self._is_begun = True
            record = RECORD_HISTORY.find()
            record(None)
            record("all", context=self._context, stacks="python", max_entries=self._room + 1)


class Names:
    """Which block or segment an address is, in the order of their allocation."""

    def __init__(self) -> None:
        """Nothing is allocated yet."""
        self._blocks: dict[int, int] = {}
        self._segments: dict[int, int] = {}
        self._num_blocks = 0
        self._num_segments = 0

    def number(self, kind: EventKind, address: int | None) -> int | None:
        """The number of the block or segment at `address`, a new one where `kind` begins one."""
        if address is None:
            return None
        if kind in _OF_SEGMENTS:
            if kind in _BEGINNINGS:
                self._segments[address] = self._num_segments
                self._num_segments += 1
            return self._segments.get(address)
        if kind in _BEGINNINGS:
            self._blocks[address] = self._num_blocks
            self._num_blocks += 1
        return self._blocks.get(address)


@cache
def short_name(filename: str) -> str:
    """A file's name from the packages' directory on: where that is on this machine is nobody's business."""
    for place in _places():
        if filename.startswith(place):
            return filename.removeprefix(place)
    return filename.replace("\\", "/").rpartition("/")[2]


@cache
def _places() -> tuple[str, ...]:
    """Directories that modules lie in, the deepest first: the packages' lies in the standard library's."""
    paths = sysconfig.get_paths()
    found = {paths[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    found.add(str(PACKAGE_ROOT))
    return tuple(sorted((f"{place}/" for place in found), key=len, reverse=True))


def _known(entries: Iterable[Mapping[str, Any]]) -> Iterator[tuple[EventKind, Mapping[str, Any]]]:
    """The entries that say something, without the completions that come with their free."""
    freed: int | None = None
    for entry in entries:
        kind = KINDS.get(entry["action"])
        if kind is not None and not (kind is EventKind.FREE_COMPLETED and entry["addr"] == freed):
            yield kind, entry
        freed = entry["addr"] if kind is EventKind.FREE else None
