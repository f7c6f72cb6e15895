from __future__ import annotations

from profiler.allocator.events import Action, ReplayEvent
from profiler.allocator.traces import OTHER_STREAM, Recorded, read_device_trace, recorded_trace, to_events
from profiler.records.history import EventKind
from profiler.records.schema import PhaseName
from profiler.units import MIB
from tests.unit.allocator.snapshots import GROWING, an_entry
from tests.unit.explain.traces import TraceMaker

ALLOC = Recorded(EventKind.ALLOC, 0, MIB)
FREE = Recorded(EventKind.FREE, 0, MIB)
COMPLETED = Recorded(EventKind.FREE_COMPLETED, 0, MIB)
GIVEN_BACK = Recorded(EventKind.SEGMENT_FREE, 0, 30 * MIB)
TAKEN = Recorded(EventKind.SEGMENT_ALLOC, 1, 40 * MIB)


def actions(recorded: list[Recorded], capacity_bytes: int | None = None) -> list[Action]:
    return [event.action for event in to_events(recorded, capacity_bytes=capacity_bytes)]


def test_a_free_that_is_complete_at_once_is_one_event() -> None:
    assert actions([ALLOC, FREE, COMPLETED]) == actions([ALLOC, FREE]) == [Action.ALLOC, Action.FREE]


def test_a_free_that_is_complete_later_waited_for_another_stream() -> None:
    other = Recorded(EventKind.ALLOC, 1, MIB)
    assert to_events([ALLOC, FREE, other, COMPLETED]) == (
        ReplayEvent(Action.ALLOC, 0, MIB),
        ReplayEvent(Action.RECORD_STREAM, 0, stream=OTHER_STREAM),
        ReplayEvent(Action.FREE, 0),
        ReplayEvent(Action.ALLOC, 1, MIB),
        ReplayEvent(Action.FREE_COMPLETED, 0),
    )


def test_segments_given_back_are_an_empty_cache_however_many() -> None:
    assert actions([ALLOC, GIVEN_BACK, GIVEN_BACK, FREE, GIVEN_BACK]) == [
        Action.ALLOC,
        Action.EMPTY_CACHE,
        Action.FREE,
        Action.EMPTY_CACHE,
    ]


def test_segments_given_back_for_one_that_had_no_room_are_the_allocators_own_doing() -> None:
    first = Recorded(EventKind.SEGMENT_ALLOC, 0, 30 * MIB)
    assert actions([first, GIVEN_BACK, TAKEN], 60 * MIB) == []
    assert actions([first, GIVEN_BACK, TAKEN], 80 * MIB) == [Action.EMPTY_CACHE]
    assert actions([first, GIVEN_BACK, TAKEN]) == [Action.EMPTY_CACHE]


def test_addresses_streams_and_pools_become_numbers() -> None:
    entries = [
        an_entry("alloc", 0, MIB, stream=0),
        an_entry("alloc", 1, MIB, stream=0x7F00, pool_id=(0, 0)),
        an_entry("free_requested", 0, MIB),
        an_entry("alloc", 0, 512, pool_id=(3, 1)),
        an_entry("free_requested", 9, MIB),
        an_entry("snapshot", 0, 0),
    ]
    assert read_device_trace(entries) == [
        Recorded(EventKind.ALLOC, 0, MIB, 0, 0),
        Recorded(EventKind.ALLOC, 1, MIB, 1, 0),
        Recorded(EventKind.FREE, 0, MIB, 0, 0),
        Recorded(EventKind.ALLOC, 2, 512, 0, 1),
        Recorded(EventKind.FREE, None, MIB, 0, 0),
    ]
    assert [event.action for event in to_events(read_device_trace(entries))] == [
        *[Action.ALLOC] * 2,
        Action.FREE,
        Action.USE_POOL,
        Action.ALLOC,
    ]


def test_segments_of_a_trace_are_no_requests() -> None:
    assert actions(read_device_trace(GROWING)) == [Action.ALLOC, Action.FREE, Action.ALLOC]


def test_a_trace_of_blocks_asks_for_what_was_asked_for() -> None:
    made = TraceMaker()
    kept, _ = made.alloc(12 * MIB), made.alloc(12 * MIB, requested_bytes=11 * MIB)
    made.end(PhaseName.LOAD)
    recorded = recorded_trace(made.trace())
    assert [event.size_bytes for event in recorded] == [12 * MIB, 11 * MIB]
    assert kept == recorded[0].number
