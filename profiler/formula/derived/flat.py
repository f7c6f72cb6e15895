"""A run of a derived formula, event after event, and its replay by the allocator's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from profiler.allocator.device_memory import AllocationFailedError

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from profiler.allocator.blocks import MemoryBlock
    from profiler.allocator.caching_allocator import CachingAllocator

EMPTY_CACHE = -1
FIRST_SIZE = -2


class FlatRun(NamedTuple):
    """A run, ready to be replayed.

    Attributes:
        steps: of every event the request whose block it frees, -1 for an emptied cache, or -2 less the number
            of the size that is asked for.
        ends: of each phase how many events there are until its end.
        parts: of each request the number of the part whose block it is.
        num_parts: how many parts there are.
    """

    steps: array[int]
    ends: array[int]
    parts: bytes
    num_parts: int


class FlatOutcome(NamedTuple):
    """What came of it.

    Attributes:
        reserved_peak_bytes: the most that was reserved.
        num_alloc_retries: how often all that was cached was given back for a request.
        requested_bytes: what the request asked for that failed; 0 where none did.
        peaks: of each phase that was begun the allocated peak.
        terms: of each of them, by part, what was allocated then.
    """

    reserved_peak_bytes: int
    num_alloc_retries: int
    requested_bytes: int
    peaks: tuple[int, ...]
    terms: tuple[tuple[int, ...], ...]


def replay_flat(run: FlatRun, sizes: Sequence[int], allocator: CachingAllocator) -> FlatOutcome:
    """What an allocator does in a run.

    Raises:
        ValueError: the run frees what is not there.
    """
    replay = _Replay(run, sizes, allocator)
    requested_bytes, start = 0, 0
    try:
        for end in run.ends:
            replay.follow(start, end)
            start = end
    except AllocationFailedError as error:
        requested_bytes = error.requested_bytes
    except KeyError:
        raise ValueError("it frees what is not there") from None
    return FlatOutcome(
        reserved_peak_bytes=allocator.reserved_peak_bytes,
        num_alloc_retries=allocator.num_alloc_retries,
        requested_bytes=requested_bytes,
        peaks=tuple(replay.peaks),
        terms=tuple(replay.terms),
    )


class _Replay:
    """A replay under way.

    Attributes:
        peaks: of each phase that was begun the allocated peak.
        terms: of each of them, by part, what was allocated then.
    """

    def __init__(self, run: FlatRun, sizes: Sequence[int], allocator: CachingAllocator) -> None:
        self.peaks: list[int] = []
        self.terms: list[tuple[int, ...]] = []
        self._run = run
        self._sizes = sizes
        self._allocator = allocator
        self._blocks: dict[int, MemoryBlock] = {}
        self._num_requests = 0
        self._now = [0] * run.num_parts

    def follow(self, start: int, end: int) -> None:
        """One phase."""
        malloc, free, blocks = self._allocator.malloc, self._allocator.free, self._blocks
        parts, now = self._run.parts, self._now
        peak_bytes, at_peak = self._allocator.allocated_bytes, tuple(now)
        try:
            for step in self._run.steps[start:end]:
                if step >= 0:
                    block = blocks.pop(step)
                    now[parts[step]] -= block.size_bytes
                    free(block)
                elif step == EMPTY_CACHE:
                    self._allocator.empty_cache()
                else:
                    number, self._num_requests = self._num_requests, self._num_requests + 1
                    block = blocks[number] = malloc(self._sizes[FIRST_SIZE - step])
                    now[parts[number]] += block.size_bytes
                    if self._allocator.allocated_bytes > peak_bytes:
                        peak_bytes, at_peak = self._allocator.allocated_bytes, tuple(now)
        finally:
            self.peaks.append(peak_bytes)
            self.terms.append(at_peak)
