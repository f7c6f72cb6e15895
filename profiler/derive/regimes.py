"""Where a job does the same whatever its batch: regimes, and the points that tell where one ends.

A line holds batches of so many rows. Along it, as rows get longer, kernels change with the size of their
input, and masks with the length: each such change is followed to where it happens. Batches of different kinds
(`profiler.formula.derived.kinds`) are apart from each other, on a line too.
"""

from __future__ import annotations

from itertools import cycle, pairwise
from typing import TYPE_CHECKING

from profiler.derive.observe import Observation, Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_OF_FOUR: Mapping[int, Sequence[int]] = {1: range(4), 2: (0, 1), 5: (2,), 16: (2, 3)}
LINES = tuple(_OF_FOUR)
"""Batch sizes that are looked along, and which of four lengths are looked at on each: two powers of 2, each
with a longer one after it that is none."""

SHORTEST = 64
"""The shortest row of tokens that is looked at, where a job takes one so short."""
_BEYOND = (1, 2, 3)
"""By how much every other length exceeds a round one, in turn: padding to 2 is told from that to 4 and 8."""
_MOST_TOKENS = 262_144
"""Larger batches of several rows fill every card there is."""
_OTHERS = (3, 7, 4, 6)
"""Batch sizes beside the lines, so that batch and length can be told apart."""
_CLOSE = 16
_CLOSE_SHARE = 16
"""What lies closer between two looks at several rows, or is no larger a part of the length, stays open where
nothing tells where to look: either may hold there."""
_NICE = 64
"""Kernels change at multiples of powers of 2: around those one looks first."""
_KERNEL_TOKENS = (255 * 512, 255 * 4, 3072)
"""Up to how many tokens kernels do the same that most models have.

ATen/native/cuda/Reduce.cuh: a reduction takes several blocks, and memory for them to meet in, once each
thread has 256 values: each of 512 where there is one result, each of 4 over rows (a norm's gradient).
Embedding.cu: gradients of at most 3,072 rows are added without sorting them first.
"""
_MULTIPLES = (2, 4, 8, 16, 32)
"""What attention may pad a mask's rows to, where they are no multiple of it."""
_FEWEST_TURNS = 3
"""How often neighbours must differ that would not if round lengths were apart."""


def first_points(longest: int, *, shortest: int = SHORTEST) -> Iterator[Point]:
    """Where a derivation begins: along all lines, from a few tokens to the longest that the model takes.

    Half of the lengths are powers of 2, and half are a little more than a multiple of one: what is padded
    shows in these, and to which multiple. One row has all of them, each other line some that the others lack.

    Args:
        longest: the longest row of tokens.
        shortest: the shortest one that the job takes.
    """
    usual = (length for length in _lengths(longest) if length >= shortest)
    lengths = sorted({*usual, longest, *([shortest] if shortest > SHORTEST else [])})
    chosen = {batch_size: _chosen(batch_size, lengths) for batch_size in LINES}
    for length in lengths:
        yield from (Point(batch_size, length) for batch_size in LINES if length in chosen[batch_size])


def _chosen(batch_size: int, lengths: Sequence[int]) -> set[int]:
    """The lengths of a line: its shortest and longest, and some of each four."""
    possible = [length for length in lengths if batch_size == 1 or batch_size * length <= _MOST_TOKENS]
    some = (length for index, length in enumerate(possible) if index % 4 in _OF_FOUR[batch_size])
    return {*possible[:1], *possible[-1:], *some}


def _lengths(longest: int) -> Iterator[int]:
    length, beyond = SHORTEST, cycle(_BEYOND)
    while length <= longest:
        yield length
        if (longer := length + length // 2 + next(beyond)) <= longest:
            yield longer
        length *= 4 if length >= 2 * SHORTEST else 2


def lines(observations: Iterable[Observation], multiple: int = 1) -> list[list[Observation]]:
    """The runs along each line, as rows get longer; a line for round lengths, and one for the others."""
    found: dict[tuple[int, bool], list[Observation]] = {}
    for one in observations:
        if one.point.batch_size in LINES:
            is_round = one.point.seq_len % multiple == 0
            found.setdefault((one.point.batch_size, not is_round), []).append(one)
    return [sorted(found[line], key=lambda one: one.point.seq_len) for line in sorted(found)]


def changes(line: Sequence[Observation]) -> list[tuple[Observation, Observation]]:
    """The neighbours of a line that do not do the same."""
    return [(one, other) for one, other in pairwise(line) if one.structure is not other.structure]


def looks_for_multiple(line: Sequence[Observation]) -> list[Point]:
    """Points that tell of which number a length must be a multiple to be round; none where it is no matter.

    The first is round whatever that number is.
    """
    nice = [one for one in line if one.point.seq_len % _NICE == 0]
    others = [one for one in line if one.point.seq_len % _NICE]
    if len(changes(line)) - len(changes(nice)) - len(changes(others)) < _FEWEST_TURNS:
        return []
    turns = [pair for pair in changes(line) if sum(one.point.seq_len % _NICE == 0 for one in pair) == 1]
    one, other = turns[len(turns) // 2]
    point = one.point if one.point.seq_len % _NICE == 0 else other.point
    return [point, *(Point(point.batch_size, point.seq_len + multiple) for multiple in _MULTIPLES)]


def told_multiple(looks: Sequence[Observation]) -> int:
    """The least number of which a length must be a multiple to do as round ones do."""
    round_one, *others = looks
    least = _NICE
    for multiple, one in zip(reversed(_MULTIPLES), reversed(others), strict=True):
        if one.structure is not round_one.structure:
            break
        least = multiple
    return least


def places_of(line: Sequence[Observation], multiple: int = 1) -> Iterator[Point]:
    """Where a line's changes are known to the token: the last point before each."""
    for one, other in changes(line):
        if _above(one.point.seq_len, multiple) == other.point.seq_len:
            yield one.point


def guessed(one: Point, other: Point, places: Sequence[Point], multiple: int = 1) -> list[Point]:
    """Both sides of the likeliest place of a change between two points of a line; none without a guess.

    Args:
        one: before the change.
        other: after it.
        places: of the changes of other lines, the last point before each: this one may come at as many
            tokens, or at the same length.
        multiple: of which round lengths are one.
    """
    rows, is_round = one.batch_size, one.seq_len % multiple == 0
    tokens = (*(place.tokens for place in places), *_KERNEL_TOKENS)
    for length in (*(count // rows for count in tokens), *(place.seq_len for place in places)):
        last = _below(length + 1, multiple, is_round=is_round)
        if one.seq_len <= last < other.seq_len:
            sides = (last, _above(last, multiple))
            new = [Point(rows, side) for side in sides if one.seq_len < side < other.seq_len]
            if new:
                return new
    return []


def between(one: Point, other: Point, multiple: int = 1) -> Point | None:
    """A point of a line between two at which the next look tells most; None where they are close enough.

    Args:
        one: the shorter.
        other: the longer; its length is as round as that of `one`.
        multiple: of which round lengths are one.
    """
    rows, low, high = one.batch_size, one.seq_len, other.seq_len
    beyond = int(low % multiple != 0)  # lengths that are not round begin one beyond those that are
    first, last = _above(low, multiple), _below(high, multiple, is_round=not beyond)
    is_close = rows > 1 and high - low <= max(_CLOSE, low // _CLOSE_SHARE)
    if first >= high or is_close:
        return None
    bottom, top = low - beyond, high - beyond
    if _is_power_of_2(bottom):
        length = first
    elif _is_power_of_2(top):
        length = last
    elif (bottom // _NICE + 1) * _NICE < top:
        length = _nicest(bottom + 1, top - 1) + beyond
    elif bottom % _NICE == 0:
        length = first
    elif top % _NICE == 0:
        length = last
    else:
        middle = _from((low + high) // 2, multiple, is_round=not beyond)
        length = middle if low < middle < high else first
    return Point(rows, length)


def _is_power_of_2(number: int) -> bool:
    return number & (number - 1) == 0


def _from(length: int, multiple: int, *, is_round: bool) -> int:
    """The first length from a number on that is round, or the first that is not."""
    if is_round:
        return -(-length // multiple) * multiple
    return length + (length % multiple == 0)


def _above(length: int, multiple: int) -> int:
    """The next length that is as round."""
    return _from(length + 1, multiple, is_round=length % multiple == 0)


def _below(length: int, multiple: int, *, is_round: bool) -> int:
    """The last length below a number that is round, or the last that is not."""
    if is_round:
        return (length - 1) // multiple * multiple
    return length - 1 - ((length - 1) % multiple == 0)


def _nicest(low: int, high: int) -> int:
    """Of the middle half between two numbers the one that the highest power of 2 divides; ends included.

    There is a multiple of `_NICE` between them: where the middle half has none, it is that.
    """
    quarter = (high - low) // 4
    step = 1 << max(0, (high - low + 1).bit_length())
    while step > _NICE:
        candidate = -(-(low + quarter) // step) * step
        if candidate <= high - quarter:
            return candidate
        step //= 2
    candidate = -(-(low + quarter) // _NICE) * _NICE
    return candidate if candidate <= high else -(-low // _NICE) * _NICE


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


def inside(first: Point, last: Point, share: float, *, longest: int, multiple: int = 1) -> Point:
    """A point in a stretch of a line, in proportion of its logarithm: on it, or beside it.

    Args:
        first: the stretch's first point.
        last: its last one, whose length is as round.
        share: 0 for the first, 1 for the last.
        longest: the longest row of tokens; of a batch beside the line, which has no more tokens than it.
        multiple: of which round lengths are one.
    """
    is_round = first.seq_len % multiple == 0
    rows, length = first.batch_size, round(first.seq_len * (last.seq_len / first.seq_len) ** share)
    if rows > 1:
        tokens = length * rows
        others = [other for other in _OTHERS if tokens <= other * longest] or [rows]
        rows = others[tokens % len(others)]
        if length % 2 == 0 or not first.tokens <= rows * length <= last.tokens:
            length = max(1, min(tokens // rows, longest))
    if multiple == 1 and rows == first.batch_size:
        length |= 1  # an odd length shows what is padded
    length = _from(length, multiple, is_round=is_round)
    most = last.seq_len if rows == first.batch_size else longest
    return Point(rows, length if length <= most else max(_below(most + 1, multiple, is_round=is_round), 1))
