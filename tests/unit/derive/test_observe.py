from __future__ import annotations

import pytest

from profiler.derive.observe import Asked, CannotFollowError, Observation, Observer, Point
from profiler.explain.traced_run import TracedRun, follow_trace
from profiler.formula.derived.program import Free
from profiler.records.history import EventKind
from profiler.records.schema import PhaseName
from profiler.records.trace import PhaseTrace, Trace, TraceEvent
from tests.builders import a_phase
from tests.unit.explain.traces import KIB, TraceMaker, a_trained_trace

POINT = Point(2, 300)
READINGS = (a_phase(PhaseName.LOAD, end=5, peak=7), a_phase(PhaseName.FORWARD, 0, end=3, peak=9))


def observe(trace: Trace, *, observer: Observer | None = None) -> Observation:
    return (observer or Observer()).observe(POINT, trace, READINGS)


def test_a_run_is_requests_with_their_owners_and_frees() -> None:
    made = TraceMaker()
    weight = made.alloc(4 * KIB, requested_bytes=4000)
    made.own(weight, "weights", "model.layers.3.mlp.weight")
    made.end(PhaseName.LOAD)
    one, other = made.alloc(KIB, requested_bytes=700), made.alloc(2 * KIB)
    made.free(one)
    made.free(other)
    made.end(PhaseName.FORWARD, 0)
    seen = observe(made.trace())
    assert seen.sizes == (4000, 700, 2 * KIB)
    load, forward = seen.structure
    assert (load.name, load.step, forward.name, forward.step) == ("load", None, "forward", 0)
    assert load.events == (Asked(("weights", "layers.*.mlp.weight"), is_workspace=False),)
    assert [event for event in forward.events if isinstance(event, Free)] == [Free(2), Free(1)]
    assert (seen.allocated_bytes, seen.reserved_bytes) == (
        9,
        max(one.reserved_peak_bytes for one in READINGS),
    )


def test_runs_that_do_the_same_with_other_sizes_have_one_structure() -> None:
    def a_trace(size_bytes: int) -> Trace:
        made = TraceMaker()
        made.free(made.alloc(size_bytes))
        made.end(PhaseName.FORWARD, 0)
        return made.trace()

    observer = Observer()
    one, other = (observe(a_trace(size), observer=observer) for size in (512, 1024))
    assert one.structure is other.structure
    assert one.structure == observe(a_trace(512)).structure
    assert one.sizes != other.sizes


def test_every_event_of_a_step_is_followed() -> None:
    seen = observe(a_trained_trace())
    requests = [event for phase in seen.structure for event in phase.events if isinstance(event, Asked)]
    assert len(requests) == len(seen.sizes) == 9
    assert len({event.owner for event in requests}) > 3


def test_what_is_freed_is_no_workspace_of_cublas() -> None:
    """A block for which as much was asked; which sizes a batch has must not change what a run does."""
    made = TraceMaker()
    saved, workspace = made.alloc(8 * KIB), made.alloc(8 * KIB)
    made.own(saved, "workspace", "cuBLAS")
    made.end(PhaseName.FORWARD, 0)
    made.free(saved)
    made.own(workspace, "workspace", "cuBLAS")
    made.end(PhaseName.BACKWARD, 0)
    asked = [event for event in observe(made.trace()).structure[0].events if isinstance(event, Asked)]
    assert [event.is_workspace for event in asked] == [False, True]


def with_events(*kinds: EventKind) -> Trace:
    events = tuple(TraceEvent(kind, KIB, None, 0, 0, KIB) for kind in kinds)
    return Trace(phases=(PhaseTrace(phase=PhaseName.LOAD, step=None, events=events),), stacks=((),), marks=())


def test_segments_that_are_given_back_in_a_row_are_one_emptied_cache() -> None:
    given_back, made = EventKind.SEGMENT_FREE, EventKind.SEGMENT_ALLOC
    seen = observe(with_events(given_back, given_back, made, given_back))
    assert seen.structure[0].events == (None, None)


@pytest.mark.parametrize("kind", [EventKind.OOM, EventKind.FREE_COMPLETED])
def test_what_no_formula_can_say_is_refused(kind: EventKind) -> None:
    with pytest.raises(CannotFollowError, match="several streams, or memory ran out"):
        observe(with_events(kind))


def test_a_trace_that_does_not_hold_all_is_refused() -> None:
    made = TraceMaker()
    made.end(PhaseName.LOAD, is_truncated=True)
    with pytest.raises(CannotFollowError, match="at 2 x 300 the allocator does more than a trace holds"):
        observe(made.trace())


def test_a_point_is_written_as_people_write_it() -> None:
    assert (str(POINT), POINT.tokens) == ("2 x 300", 600)


def test_whose_blocks_are_is_found_once_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks in use are listed by their addresses, which depend on sizes."""
    found: list[Trace] = []

    def follow(trace: Trace) -> TracedRun:
        found.append(trace)
        return follow_trace(trace)

    def a_trace(size_bytes: int, order: tuple[int, int]) -> Trace:
        made = TraceMaker()
        blocks = [made.alloc(size_bytes) for _ in range(3)]
        for place in order:
            made.own(blocks[place], "weights", f"layers.{place}.weight")
        made.own(blocks[2], "")
        made.end(PhaseName.LOAD)
        return made.trace()

    monkeypatch.setattr("profiler.derive.observe.follow_trace", follow)
    observer = Observer()
    one = observe(a_trace(512, (0, 1)), observer=observer)
    assert observe(a_trace(1024, (1, 0)), observer=observer).structure is one.structure
    assert len(found) == 1
