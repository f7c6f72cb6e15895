from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from profiler.records.history import EventKind
from profiler.records.schema import PhaseName
from profiler.verify.events import FirstDifference, compare_histories
from tests.unit.verify.histories import STACKS, a_history, a_phase, a_small_history


def first_of(
    real: tuple[tuple[str, int, int | None], ...], virtual: tuple[tuple[str, int, int | None], ...]
) -> FirstDifference:
    first, _ = compare_histories(a_small_history(*real), a_small_history(*virtual))
    assert first is not None
    return first


def test_equal_histories_have_no_difference() -> None:
    history = a_small_history(("free", 2048, 2))
    assert compare_histories(history, history) == (None, ())


def test_another_size_is_found_with_its_place_and_its_line() -> None:
    first = first_of((("free", 2048, 2), ("alloc", 100, 3)), (("free", 2048, 2), ("alloc", 200, 3)))
    assert (first.index, first.phase, first.step, first.index_in_phase) == (6, PhaseName.BACKWARD, 0, 1)
    assert first.real is not None
    assert first.virtual is not None
    assert (first.real.index, first.real.size_bytes, first.virtual.size_bytes) == (6, 100, 200)
    assert first.real.stack == STACKS[0]
    assert [(event.index, event.kind) for event in first.before] == [(5, EventKind.FREE)]


def test_another_block_of_the_same_size_is_a_difference_but_makes_no_phase_unlike() -> None:
    real, virtual = a_small_history(("free", 512, 0)), a_small_history(("free", 512, 9))
    first, unlike = compare_histories(real, virtual)
    assert first is not None
    assert unlike == ()


def test_a_side_that_goes_on_is_shown_beside_nothing() -> None:
    first = first_of((("free", 2048, 2),), (("free", 2048, 2), ("alloc", 8, 3), ("free", 8, 3)))
    assert first.real is None
    assert first.virtual is not None
    assert first.virtual.size_bytes == 8
    assert [event.kind for event in first.virtual_after] == [EventKind.FREE]
    assert first.real_after == ()


def test_the_same_events_in_another_order_are_told_from_others() -> None:
    real = a_small_history(("free", 2048, 2), ("free", 512, 0))
    reordered = a_small_history(("free", 512, 0), ("free", 2048, 2))
    others = a_small_history(("free", 512, 0))
    assert [phase.is_reordered for phase in compare_histories(real, reordered)[1]] == [True]
    assert [phase.is_reordered for phase in compare_histories(real, others)[1]] == [False]


def test_a_phase_that_one_side_did_not_keep_is_left_out() -> None:
    kept, full = a_small_history(("free", 512, 0)), a_small_history(is_truncated=True)
    assert compare_histories(kept, full) == (None, ())
    shorter = a_history(*kept.phases[:2])
    assert compare_histories(kept, shorter) == (None, ())


EVENTS = st.lists(
    st.tuples(st.sampled_from(["alloc", "free"]), st.integers(1, 4), st.integers(0, 3)), max_size=6
)


@given(real=EVENTS, virtual=EVENTS)
def test_all_events_before_the_first_difference_are_the_same(
    real: list[tuple[str, int, int | None]], virtual: list[tuple[str, int, int | None]]
) -> None:
    sides = [a_history(a_phase(PhaseName.LOAD, None, *events)) for events in (real, virtual)]
    first, unlike = compare_histories(*sides)
    if first is None:
        assert real == virtual
        assert unlike == ()
        return
    assert real[: first.index] == virtual[: first.index]
    assert real[first.index : first.index + 1] != virtual[first.index : first.index + 1]
