"""What an allocator would have done: events replayed, and the figures that come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.allocator.caching_allocator import CachingAllocator
from profiler.allocator.device_memory import AllocationFailedError
from profiler.allocator.events import Action
from profiler.allocator.segments import SegmentView, view_segments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiler.allocator.blocks import MemoryBlock
    from profiler.allocator.events import ReplayEvent
    from profiler.allocator.settings import AllocatorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The request that found no memory.

    Attributes:
        event: its place among the events.
        requested_bytes: what it asked for.
        segment_bytes: the segment that could not be made for it.
    """

    event: int
    requested_bytes: int
    segment_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of it.

    Attributes:
        num_events: how many events were replayed: all, or those up to the request that failed.
        allocated_bytes: of blocks that are given out, at the end.
        allocated_peak_bytes: the most that was.
        active_peak_bytes: the most that was given out or waited for by another stream.
        requested_bytes: what was asked for by what is active at the end.
        reserved_bytes: of all segments, at the end.
        reserved_peak_bytes: the most that was.
        num_alloc_retries: how often all that was cached was given back for a request.
        out_of_memory: the request that failed, which ends a replay; None where all were served.
        segments: those at the end.
        series: allocated and reserved bytes after every event; empty unless asked for.
    """

    num_events: int
    allocated_bytes: int
    allocated_peak_bytes: int
    active_peak_bytes: int
    requested_bytes: int
    reserved_bytes: int
    reserved_peak_bytes: int
    num_alloc_retries: int
    out_of_memory: Failure | None
    segments: tuple[SegmentView, ...]
    series: tuple[tuple[int, int], ...] = ()


def replay(
    events: Iterable[ReplayEvent],
    *,
    settings: AllocatorSettings | None = None,
    capacity_bytes: int | None = None,
    total_bytes: int | None = None,
    with_series: bool = False,
) -> Replay:
    """What an allocator would do with events, up to the first request that fails.

    A free of a block that no event asked for changes nothing.

    Args:
        events: in order.
        settings: the allocator's; torch's defaults if None.
        capacity_bytes: what the card has free for the tensors of this process; None for no end.
        total_bytes: what the card has; None for the capacity.
        with_series: whether to keep the figures after every event.
    """
    allocator = CachingAllocator(settings, capacity_bytes=capacity_bytes, total_bytes=total_bytes)
    series: list[tuple[int, int]] = []
    num_events, failure = _follow(events, allocator, series if with_series else None)
    return Replay(
        num_events=num_events,
        allocated_bytes=allocator.allocated_bytes,
        allocated_peak_bytes=allocator.allocated_peak_bytes,
        active_peak_bytes=allocator.active_peak_bytes,
        requested_bytes=allocator.requested_bytes,
        reserved_bytes=allocator.reserved_bytes,
        reserved_peak_bytes=allocator.reserved_peak_bytes,
        num_alloc_retries=allocator.num_alloc_retries,
        out_of_memory=failure,
        segments=tuple(view_segments(allocator)),
        series=tuple(series),
    )


def _follow(
    events: Iterable[ReplayEvent], allocator: CachingAllocator, series: list[tuple[int, int]] | None
) -> tuple[int, Failure | None]:
    """How many events were replayed, and the request that ended it."""
    malloc, free = allocator.malloc, allocator.free
    alloc_action, free_action = Action.ALLOC, Action.FREE
    blocks: dict[int, MemoryBlock] = {}
    num_events = 0
    try:
        for action, number, size_bytes, stream, pool in events:
            num_events += 1
            if action is alloc_action:
                blocks[number] = malloc(size_bytes, stream, pool)
            elif action is free_action:
                block = blocks.pop(number, None)
                if block is not None and not free(block):
                    blocks[number] = block
            else:
                _do(action, blocks.get(number), stream, pool, allocator)
            if series is not None:
                series.append((allocator.allocated_bytes, allocator.reserved_bytes))
    except AllocationFailedError as error:
        failure = Failure(
            event=num_events - 1, requested_bytes=error.requested_bytes, segment_bytes=error.segment_bytes
        )
        return num_events, failure
    return num_events, None


def _do(
    action: Action, block: MemoryBlock | None, stream: int, pool: int, allocator: CachingAllocator
) -> None:
    """What is rare."""
    match action:
        case Action.RECORD_STREAM if block is not None:
            allocator.record_stream(block, stream)
        case Action.FREE_COMPLETED if block is not None:
            allocator.complete_free(block)
        case Action.EMPTY_CACHE:
            allocator.empty_cache(pool)
        case Action.BEGIN_POOL:
            allocator.begin_pool(pool)
        case Action.END_POOL:
            allocator.end_pool(pool)
        case Action.USE_POOL:
            allocator.use_pool(pool)
        case Action.RELEASE_POOL:
            allocator.release_pool(pool)
        case _:
            pass
