from __future__ import annotations

from profiler.explain.owners import Part, find_owners
from profiler.explain.timeline import Timeline, make_timelines
from profiler.explain.traced_run import follow_trace
from profiler.records.schema import PhaseName
from tests.unit.explain.traces import KIB, TraceMaker, a_trained_trace

WEIGHTS = list(Part).index(Part.WEIGHTS)


def timelines(made: TraceMaker, moment: int, num_buckets: int = 800) -> tuple[Timeline, ...]:
    run = follow_trace(made.trace())
    return make_timelines(run, find_owners(run), moment=moment, num_buckets=num_buckets)


def a_long_run() -> TraceMaker:
    """A weight, then a thousand short blocks in each of two steps, one of them far larger."""
    made = TraceMaker()
    made.own(made.alloc(KIB), "weights", "a.weight")
    made.end(PhaseName.LOAD)
    for step in range(2):
        for count in range(1000):
            made.free(made.alloc(100 * KIB if (step, count) == (1, 700) else 512))
        made.end(PhaseName.FORWARD, step)
    return made


def test_every_extreme_is_kept_however_few_instants_there_are() -> None:
    whole, *_ = timelines(a_long_run(), moment=0, num_buckets=20)
    assert len(whole.instants) < 100
    assert max(instant.total_bytes for instant in whole.instants) == 101 * KIB
    assert all(instant.part_bytes[WEIGHTS] == KIB for instant in whole.instants)


def test_the_explained_event_is_always_among_them() -> None:
    run = follow_trace(a_long_run().trace())
    for moment in (0, 17, 1200, len(run.events) - 1):
        for timeline in make_timelines(run, find_owners(run), moment=moment, num_buckets=5):
            assert moment in [instant.event for instant in timeline.instants]


def test_a_step_and_the_events_around_begin_with_what_was_allocated_before() -> None:
    whole, step, around = timelines(a_long_run(), moment=2500)
    assert (whole.start, whole.end) == (0, 4001)
    assert (step.name, step.start, step.end) == ("step 1", 2001, 4001)
    assert (around.start, around.end) == (2350, 2651)
    assert [instant.event for instant in around.instants] == list(range(2350, 2651))
    for timeline in (step, around):
        assert {instant.part_bytes[WEIGHTS] for instant in timeline.instants} == {KIB}


def test_every_instant_adds_up_to_what_the_allocator_held() -> None:
    run = follow_trace(a_trained_trace())
    for timeline in make_timelines(run, find_owners(run), moment=3):
        assert all(instant.total_bytes == run.totals[instant.event] for instant in timeline.instants)
