"""Where a job does the same whatever its batch: regimes, and the points that tell where one ends.

A line holds batches of so many rows. Along it, as rows get longer, kernels change with the size of their
input, and masks with the length: each such change is followed to where it happens. Batches of one row are
apart from all others, as masks and attention are handled otherwise for one.
"""

from __future__ import annotations

from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from profiler.derive.observe import Observation, Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Row: TypeAlias = Literal["one", "more"]
ROWS: tuple[Row, ...] = ("one", "more")
LINES = (1, 2, 5, 16)
"""Batch sizes that are looked along."""

SHORTEST = 64
"""The shortest row of tokens that is looked at, where a job takes one so short."""
_BEYOND = (1, 2, 3)
"""By how much every other length exceeds a round one, in turn: padding to 2 is told from that to 4 and 8."""
_MOST_TOKENS = 262_144
"""Larger batches of several rows fill every card there is."""
_OTHERS = (3, 7, 4, 6)
"""Batch sizes beside the lines, so that batch and length can be told apart."""
_CLOSE = 16
"""What lies closer between two looks is left open: either may hold there."""
_CLOSE_SHARE = 16
"""The same for lines of more than one row, as a part of the length."""
_NICE = 64
"""Kernels change at multiples of powers of 2: around those one looks first."""


def row_of(point: Point) -> Row:
    """Whether a batch has one row or more."""
    return "one" if point.batch_size == 1 else "more"


def first_points(longest: int, *, shortest: int = SHORTEST) -> Iterator[Point]:
    """Where a derivation begins: along all lines, from a few tokens to the longest that the model takes.

    Half of the lengths are powers of 2, and half are a little more than a multiple of one: what is padded
    shows in these, and to which multiple.

    Args:
        longest: the longest row of tokens.
        shortest: the shortest one that the job takes.
    """
    usual = (length for length in _lengths(longest) if length >= shortest)
    lengths = sorted({*usual, longest, *([shortest] if shortest > SHORTEST else [])})
    for index, length in enumerate(lengths):
        for batch_size in LINES:
            is_between = batch_size not in (LINES[0], LINES[1], LINES[-1])
            if is_between and index % 2 and length != longest:
                continue
            if batch_size == 1 or batch_size * length <= _MOST_TOKENS:
                yield Point(batch_size, length)


def _lengths(longest: int) -> Iterator[int]:
    length, beyond = SHORTEST, cycle(_BEYOND)
    while length <= longest:
        yield length
        if (longer := length + length // 2 + next(beyond)) <= longest:
            yield longer
        length *= 4 if length >= 2 * SHORTEST else 2


def lines(observations: Iterable[Observation]) -> list[list[Observation]]:
    """The runs along each line, as rows get longer."""
    by_batch: dict[int, list[Observation]] = {batch_size: [] for batch_size in LINES}
    for one in observations:
        if one.point.batch_size in by_batch:
            by_batch[one.point.batch_size].append(one)
    return [sorted(line, key=lambda one: one.point.seq_len) for line in by_batch.values() if line]


def changes(line: Sequence[Observation]) -> list[tuple[Observation, Observation]]:
    """The neighbours of a line that do not do the same."""
    return [(one, other) for one, other in pairwise(line) if one.structure is not other.structure]


def between(one: Point, other: Point) -> Point | None:
    """A point of a line between two at which the next look tells most; None where they are close enough."""
    rows, low, high = one.batch_size, one.seq_len + 1, other.seq_len - 1
    if low > high:
        return None
    if (low - 1) % _NICE == 0:
        return Point(rows, low)
    if high % _NICE == 0 or (high + 1) % _NICE == 0:
        return Point(rows, high)
    if high - low >= (_CLOSE if rows == 1 else max(_CLOSE, low // _CLOSE_SHARE)):
        return Point(rows, _nicest(low, high))
    nice = -(-low // _NICE) * _NICE
    return Point(rows, nice) if nice <= high and rows == 1 else None


def _nicest(low: int, high: int) -> int:
    """Of the middle half between two numbers the one that the highest power of 2 divides; ends included."""
    quarter = (high - low) // 4
    low, high = low + quarter, high - quarter
    step = 1 << max(0, (high - low + 1).bit_length())
    while step > 1:
        candidate = -(-low // step) * step
        if candidate <= high:
            return candidate
        step //= 2
    return low


def stretches(line: Sequence[Observation]) -> Iterator[tuple[Observation, Observation]]:
    """The parts of a line with one structure: the first and the last run in each."""
    first = last = None
    for one in line:
        if first is None or last is None or one.structure is not first.structure:
            if first is not None and last is not None:
                yield first, last
            first = one
        last = one
    if first is not None and last is not None:
        yield first, last


def inside(first: Point, last: Point, share: float) -> Point:
    """A point in a stretch of a line, in proportion of its logarithm: on it, or beside it."""
    length = round(first.seq_len * (last.seq_len / first.seq_len) ** share)
    if first.batch_size == 1:
        return Point(1, min(length | 1, last.seq_len))  # an odd length shows what is padded
    tokens = length * first.batch_size
    rows = _OTHERS[tokens % len(_OTHERS)]
    return Point(rows, length if length % 2 else min(max(1, tokens // rows), last.seq_len))
