"""Where a job does the same whatever its batch: regimes, and the points that tell where one ends.

A row holds batches of one row of tokens, or of more: masks and attention are handled otherwise for one.
Along a row, in the order of tokens, kernels change with the size of their input: each such change is found to
the token.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from profiler.derive.observe import Observation, Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Row: TypeAlias = Literal["one", "more"]
ROWS: tuple[Row, ...] = ("one", "more")

_SMALLEST = 64
_BATCHES = (2, 3, 2, 5, 2, 4, 7)
"""Batch sizes of the row of more, in turn, so that batch and length can be told apart."""
_OTHERS = (3, 5, 4, 6)
_CLOSE = 16
"""What lies closer between two looks is left open: either may hold there."""
_NICE = 64
"""Kernels change at multiples of powers of 2: around those one looks first."""


def row_of(point: Point) -> Row:
    """The row of a point."""
    return "one" if point.batch_size == 1 else "more"


def first_points(longest: int) -> Iterator[Point]:
    """Where a derivation begins: along both rows, from a few tokens to the longest that the model takes.

    Half of the lengths are powers of 2, and half are one more than a multiple of one: what is padded shows in
    these, and to which multiple.

    Args:
        longest: the longest row of tokens.
    """
    lengths = sorted({*_lengths(longest), longest})
    for index, length in enumerate(lengths):
        yield Point(1, length)
        yield Point(_BATCHES[index % len(_BATCHES)], length)


def _lengths(longest: int) -> Iterator[int]:
    length = _SMALLEST
    while length <= longest:
        yield length
        if (longer := length + length // 2 + 1) <= longest:
            yield longer
        length *= 4 if length >= 2 * _SMALLEST else 2


def changes(observations: Sequence[Observation]) -> list[tuple[Observation, Observation]]:
    """The neighbours of a row, in the order of tokens, that do not do the same."""
    ordered = sorted(observations, key=lambda one: (one.point.tokens, one.point))
    return [(one, other) for one, other in pairwise(ordered) if one.structure is not other.structure]


def between(one: Point, other: Point) -> Point | None:
    """A point between two at which the next look tells most; None where they are close enough.

    In the row of more it has two rows of tokens: what changes with the tokens changes there as elsewhere.
    """
    rows = 1 if row_of(one) == "one" else 2
    low, high = one.tokens // rows + 1, (other.tokens - 1) // rows
    if low > high:
        return None
    if (low - 1) % _NICE == 0:
        return Point(rows, low)
    if high % _NICE == 0 or (high + 1) % _NICE == 0:
        return Point(rows, high)
    if high - low >= _CLOSE:
        return Point(rows, _nicest(low, high))
    nice = -(-low // _NICE) * _NICE
    return Point(rows, nice) if nice <= high else None


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


def inside(first: Point, last: Point, share: float) -> Point:
    """A point of a stretch of a row, in proportion of its logarithm."""
    tokens = round(first.tokens * (last.tokens / first.tokens) ** share)
    if row_of(first) == "one":
        return Point(1, min(tokens | 1, last.tokens))  # an odd length shows what is padded
    fitting = [rows for rows in _OTHERS if first.tokens <= -(-tokens // rows) * rows <= last.tokens]
    rows = fitting[tokens % len(fitting)] if fitting else 2
    return Point(rows, max(1, -(-tokens // rows)))
