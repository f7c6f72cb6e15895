from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.allocator.caching_allocator import CachingAllocator
from profiler.allocator.device_memory import AllocationFailedError
from profiler.allocator.events import Action, ReplayEvent
from profiler.allocator.replay import Failure, replay
from profiler.allocator.segments import BlockState, BlockView
from profiler.allocator.settings import AllocatorSettings
from profiler.units import MIB

EXPANDABLE = AllocatorSettings(expandable_segments=True)


def alloc(number: int, size_bytes: int, stream: int = 0, pool: int = 0) -> ReplayEvent:
    return ReplayEvent(Action.ALLOC, number, size_bytes, stream, pool)


def free(number: int) -> ReplayEvent:
    return ReplayEvent(Action.FREE, number)


EMPTY_CACHE = ReplayEvent(Action.EMPTY_CACHE)


def test_small_requests_share_a_segment_and_large_ones_another() -> None:
    done = replay([alloc(0, 1000), alloc(1, 1000), alloc(2, 3 * MIB), alloc(3, 3 * MIB)])
    assert done.allocated_bytes == 2 * 1024 + 6 * MIB
    assert done.requested_bytes == 2000 + 6 * MIB
    assert [segment.size_bytes for segment in done.segments] == [2 * MIB, 20 * MIB]


def test_the_figures_after_every_event_are_kept_where_asked_for() -> None:
    done = replay([alloc(0, 3 * MIB), free(0), EMPTY_CACHE], with_series=True)
    assert done.series == ((3 * MIB, 20 * MIB), (0, 20 * MIB), (0, 0))
    assert (done.allocated_peak_bytes, done.reserved_peak_bytes) == (3 * MIB, 20 * MIB)


def test_a_request_that_finds_no_memory_ends_the_replay_and_is_told() -> None:
    done = replay([alloc(0, 30 * MIB), alloc(1, 31 * MIB), free(0)], capacity_bytes=60 * MIB)
    assert done.out_of_memory == Failure(event=1, requested_bytes=31 * MIB, segment_bytes=32 * MIB)
    assert (done.num_events, done.allocated_bytes, done.num_alloc_retries) == (2, 30 * MIB, 1)


def test_what_is_cached_is_given_back_before_a_request_fails() -> None:
    events = [alloc(0, 30 * MIB), free(0), alloc(1, 40 * MIB)]
    done = replay(events, capacity_bytes=60 * MIB)
    assert (done.out_of_memory, done.num_alloc_retries, done.reserved_bytes) == (None, 1, 40 * MIB)


def test_a_stream_does_not_get_what_another_freed() -> None:
    events = [alloc(0, 30 * MIB), free(0), alloc(1, 30 * MIB, stream=1)]
    assert replay(events).reserved_bytes == 60 * MIB


def test_a_block_that_another_stream_uses_is_free_when_that_is_done() -> None:
    events = [
        alloc(0, 30 * MIB),
        ReplayEvent(Action.RECORD_STREAM, 0, stream=1),
        free(0),
        alloc(1, 30 * MIB),
        ReplayEvent(Action.FREE_COMPLETED, 0),
        alloc(2, 30 * MIB),
    ]
    waiting = replay(events[:4])
    assert (waiting.allocated_bytes, waiting.active_peak_bytes) == (30 * MIB, 60 * MIB)
    assert waiting.segments[0].blocks == (BlockView(30 * MIB, BlockState.PENDING),)
    done = replay(events)
    assert (done.allocated_bytes, done.reserved_bytes) == (60 * MIB, 60 * MIB)


def test_a_private_pool_keeps_its_memory_until_nothing_uses_it() -> None:
    events = [
        ReplayEvent(Action.BEGIN_POOL, pool=1),
        alloc(0, 30 * MIB, pool=1),
        ReplayEvent(Action.END_POOL, pool=1),
        free(0),
        EMPTY_CACHE,
    ]
    assert [segment.pool for segment in replay(events).segments] == [1]
    assert replay([*events, alloc(1, 30 * MIB)]).reserved_bytes == 60 * MIB
    assert replay([*events, ReplayEvent(Action.RELEASE_POOL, pool=1), EMPTY_CACHE]).reserved_bytes == 0


def test_while_a_graph_is_captured_nothing_cached_is_given_back() -> None:
    allocator = CachingAllocator(capacity_bytes=60 * MIB)
    allocator.free(allocator.malloc(40 * MIB))
    allocator.begin_pool(1, is_capture=True)
    with pytest.raises(AllocationFailedError):
        allocator.malloc(40 * MIB, pool=1)
    allocator.end_pool(1)
    allocator.malloc(40 * MIB, pool=1)
    assert (allocator.num_ooms, allocator.num_alloc_retries) == (1, 1)


def test_a_free_of_what_no_event_asked_for_changes_nothing() -> None:
    assert replay([free(7), ReplayEvent(Action.FREE_COMPLETED, 7)]).allocated_peak_bytes == 0


def test_an_expandable_segment_holds_sizes_that_grow_where_others_leave_holes() -> None:
    events, live = [], []
    for step in range(8):
        for place in range(4):
            live.append(4 * step + place)
            events.append(alloc(live[-1], (12 + 4 * step) * MIB))
        events += [free(number) for number in live]
        live.clear()
    ordinary, expandable = replay(events), replay(events, settings=EXPANDABLE)
    assert ordinary.allocated_peak_bytes == expandable.allocated_peak_bytes == 160 * MIB
    assert (ordinary.reserved_peak_bytes, expandable.reserved_peak_bytes) == (832 * MIB, 160 * MIB)
    assert len(expandable.segments) == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("alloc"), st.integers(1, 64 * MIB), st.integers(0, 1)),
        st.tuples(st.just("free"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("empty"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(program=steps, is_expandable=st.booleans())
def test_segments_hold_what_is_reserved_and_allocated_and_nothing_is_left_at_the_end(
    program: list[tuple[str, int, int]], is_expandable: bool
) -> None:
    events, live = [], []
    for number, (step, size, stream) in enumerate(program):
        if step == "alloc":
            events.append(alloc(number, size, stream))
            live.append(number)
        elif step == "free" and live:
            events.append(free(live.pop(size % len(live))))
        elif step == "empty":
            events.append(EMPTY_CACHE)
    settings = AllocatorSettings(expandable_segments=is_expandable)
    done = replay(events, settings=settings)
    assert sum(segment.size_bytes for segment in done.segments) == done.reserved_bytes
    assert sum(segment.allocated_bytes for segment in done.segments) == done.allocated_bytes
    assert done.allocated_bytes <= done.reserved_bytes <= done.reserved_peak_bytes
    for segment in done.segments:
        assert sum(block.size_bytes for block in segment.blocks) == segment.size_bytes
        states = [block.state for block in segment.blocks]
        assert (BlockState.INACTIVE, BlockState.INACTIVE) not in pairwise(states)
    rest = replay([*events, *map(free, live), EMPTY_CACHE], settings=settings)
    assert (rest.allocated_bytes, rest.requested_bytes, rest.reserved_bytes) == (0, 0, 0)
    assert rest.segments == ()
