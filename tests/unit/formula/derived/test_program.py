from __future__ import annotations

import tracemalloc
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.formula.derived import program
from profiler.formula.derived.program import Free, SizedRequest, Symbol, read_body, write_body
from profiler.units import MIB
from tests.unit.formula.derived.files import quickly

symbols: st.SearchStrategy[Symbol] = st.one_of(
    st.builds(SizedRequest, st.integers(0, 12), st.integers(0, 3)),
    st.builds(Free, st.integers(1, 9)),
    st.none(),
    st.builds(SizedRequest, st.integers(0, 999_999), st.integers(0, 999_999)),
    st.builds(Free, st.integers(1, 999_999_999)),
)
"""Few that are often alike, and some that may be anything."""
Events: TypeAlias = list[Symbol]


def repeated(inner: st.SearchStrategy[Events]) -> st.SearchStrategy[Events]:
    parts = st.tuples(inner, st.integers(1, 6), st.lists(symbols, max_size=4))
    return parts.map(lambda part: part[0] * part[1] + part[2])


blocks = st.recursive(st.lists(symbols, min_size=1, max_size=12), repeated, max_leaves=6)


@given(st.lists(blocks, max_size=4).map(lambda parts: [symbol for part in parts for symbol in part]))
def test_a_body_is_read_as_it_was_written(events: Events) -> None:
    assert read_body(write_body(events)) == tuple(events)


def test_what_comes_in_a_row_is_written_once() -> None:
    layer: Events = [SizedRequest(number, 1) for number in range(20)]
    layer += [Free(number) for number in range(20, 0, -1)]
    text = write_body([None, *layer * 31, SizedRequest(7, 2)])
    assert text == f"e 31({write_body(layer)}) 7.2"


def test_layers_of_blocks_are_written_once_in_each_other() -> None:
    expert: Events = [SizedRequest(1, 1), SizedRequest(2, 1), Free(2), Free(1)] * 3
    layer: Events = [*([SizedRequest(0, 0), *expert, Free(4)] * 8), SizedRequest(5, 5)]
    events = layer * 12
    text = write_body(events)
    assert len(text) < 100
    assert read_body(text) == tuple(events)


def test_an_empty_body_has_no_events() -> None:
    assert (read_body(""), write_body([])) == ((), "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "no event"),
        ("1", "no event"),
        ("1.", "no event"),
        ("1.2  e", "no event"),
        (" e", "no event"),
        ("1.2\ne", "no event"),
        ("-0", "no event"),
        ("--1", "no event"),
        ("-", "no event"),
        ("1.-1", "no event"),
        ("1234567.1", "no event"),
        ("-1234567890", "no event"),
        ("0(e)", "no event"),
        ("(e)", "no event"),
        ("-1(e)", "no event"),
        ("1000000(e)", "no event"),
        ("2(e", "does not end"),
        ("2(2(e)", "does not end"),
        ("2(", "does not end"),
        ("e)", "has not begun"),
        (")", "has not begun"),
        ("2(e))", "has not begun"),
        ("2()", "is empty"),
        ("2(3() e)", "is empty"),
        ("2(" * 9 + "e" + ")" * 9, "nested too deeply"),
        ("1(" * 1_000_000, "nested too deeply"),
        ("999999(" * 8 + "e" + ")" * 8, "more than"),
        ("999999(999999(e) e)", "more than"),
        ("e " * 6_000_000, "more than"),
        ("999999(e e)" * 3, "more than"),
        ("999999(e) " * 1_000_000, "more than"),
        ("2(" * 7 + "999999(e) " * 100_000, "more than"),
        ("1(e) " * 3_000_000 + "999999(e e)", "more than"),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_body_is_refused_at_once(text: str, reason: str) -> None:
    with quickly(), pytest.raises(ValueError, match=reason):
        read_body(text)


def test_the_limit_is_one_of_the_whole_body_and_holds_before_it_is_written_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "MAX_EVENTS", 1000)
    assert len(read_body("2(400(e) 50(1.1 -1))")) == 1000
    with pytest.raises(ValueError, match="more than 1,000 events"):
        read_body("2(400(e) 50(1.1 -1)) e")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 1,000 events"):
            read_body("999999(999(e))")
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
