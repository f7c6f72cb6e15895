from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.derive.observe import Observation, PhaseSteps, Point
from profiler.derive.regimes import LINES, between, changes, first_points, inside, lines, stretches
from profiler.records.schema import PhaseName

rows = st.sampled_from([1, 2])


def an_observation(point: Point, structure: tuple[PhaseSteps, ...]) -> Observation:
    return Observation(point=point, structure=structure, sizes=(), allocated_bytes=0, reserved_bytes=0)


@given(st.integers(64, 200_000))
def test_the_first_points_lie_along_all_lines_up_to_the_longest(longest: int) -> None:
    found = list(first_points(longest))
    assert {point.batch_size > 1 for point in found} == {True, False}
    assert {point.batch_size for point in found} == set(LINES)
    lengths = [point.seq_len for point in found]
    assert (min(lengths), max(lengths)) == (64, longest)
    assert lengths == sorted(lengths)
    assert len(set(found)) == len(found) < 80
    if longest >= 512:
        assert {point.seq_len % 2 for point in found} == {0, 1}


@given(st.integers(64, 5000), st.integers(0, 200_000))
def test_the_first_points_begin_at_the_shortest_row_that_a_job_takes(shortest: int, more: int) -> None:
    lengths = [point.seq_len for point in first_points(shortest + more, shortest=shortest)]
    assert (min(lengths), max(lengths)) == (shortest, shortest + more)


def follow(low: Point, high: Point, first_of_new: int) -> tuple[Point, Point, int]:
    """Looks between two points until they are close enough; the last before a change, the first after it."""
    num_looks = 0
    while (point := between(low, high)) is not None:
        assert low.seq_len < point.seq_len < high.seq_len
        assert point.batch_size == low.batch_size
        num_looks += 1
        low, high = (low, point) if point.seq_len >= first_of_new else (point, high)
    return low, high, num_looks


@given(rows, st.integers(64, 60_000), st.integers(2, 60_000), st.data())
def test_a_change_is_found_with_a_few_looks(batch: int, first: int, more: int, data: st.DataObject) -> None:
    change = data.draw(st.integers(first + 1, first + more))
    below, above, num_looks = follow(Point(batch, first), Point(batch, first + more), change)
    assert below.seq_len < change <= above.seq_len
    assert above.seq_len - below.seq_len <= (1 if batch == 1 else 16 + below.seq_len // 16)
    assert num_looks <= 40


@given(st.integers(1, 400), st.integers(64, 4000), st.integers(1, 4000), st.sampled_from([0, 1]))
def test_a_change_at_a_round_length_of_one_row_is_found_to_the_token(
    multiple: int, before: int, after: int, beyond: Literal[0, 1]
) -> None:
    """Kernels change at a power of 2, or right beyond it."""
    length = 64 * (multiple + 63)
    change = length + beyond
    below, above, _ = follow(Point(1, length - min(before, length - 1)), Point(1, length + after), change)
    assert (below.seq_len, above.seq_len) == (change - 1, change)


@given(
    st.builds(Point, st.integers(1, 16), st.integers(64, 5000)),
    st.integers(1, 200_000),
    st.floats(0.05, 0.95),
)
def test_a_point_inside_a_stretch_lies_in_its_row(first: Point, more: int, share: float) -> None:
    last = Point(first.batch_size, first.seq_len + more)
    longest = max(last.seq_len, 8192)
    point = inside(first, last, share, longest=longest)
    assert (point.batch_size == 1) == (first.batch_size == 1)
    assert 1 <= point.seq_len <= longest


def test_a_change_is_between_neighbours_of_a_line() -> None:
    one, other = (), (PhaseSteps(PhaseName.LOAD, None, ()),)
    seen = [
        an_observation(Point(2, 512), other),
        an_observation(Point(2, 64), one),
        an_observation(Point(3, 100), other),
        an_observation(Point(2, 256), one),
    ]
    (line,) = lines(seen)
    assert [(low.point, high.point) for low, high in changes(line)] == [(Point(2, 256), Point(2, 512))]
    assert [(low.point, high.point) for low, high in stretches(line)] == [
        (Point(2, 64), Point(2, 256)),
        (Point(2, 512), Point(2, 512)),
    ]


@pytest.mark.parametrize("batch", [1, 2])
def test_neighbours_need_no_look(batch: int) -> None:
    assert between(Point(batch, 100), Point(batch, 101)) is None
