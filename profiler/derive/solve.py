"""From sizes that were seen at some points to what they are everywhere: exact polynomials, or tables."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from itertools import combinations
from operator import mul
from typing import TYPE_CHECKING

from profiler.formula.derived.sizes import Monomial, Polynomial, SizeFactor, StepTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.derive.observe import Point
    from profiler.formula.derived.sizes import Size

_BATCH, _LENGTH = SizeFactor("b"), SizeFactor("s")
_PLAIN: tuple[Monomial, ...] = (
    (),
    (_BATCH, _LENGTH),
    (_LENGTH,),
    (_BATCH,),
    (_BATCH, _LENGTH, _LENGTH),
    (_LENGTH, _LENGTH),
)
_MULTIPLES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""What kernels pad rows to, and how much of a row a block of threads takes."""
_MAX_TERMS = 3
_NUM_SPARE = 2
"""How many points more than terms a polynomial must hold at: fewer could be met by accident."""
_GRANULE_BYTES = 512
"""The allocator rounds every request up to this."""


def solve_size(points: Sequence[Point], sizes: Sequence[int]) -> Size:
    """The simplest polynomial that gives these sizes at these points exactly; a table where there is none.

    Args:
        points: where the size was seen.
        sizes: what it was there, in bytes.
    """
    if len(set(sizes)) == 1:
        return Polynomial(((Fraction(sizes[0]), ()),))
    for candidate in _candidates_at(tuple(points)):
        coefficients = _solve(candidate, sizes)
        if coefficients is not None:
            return Polynomial(tuple(zip(coefficients, candidate.monomials, strict=True)))
    rounded = {-(-size // _GRANULE_BYTES) for size in sizes}
    if len(rounded) == 1:  # it differs by less than the allocator tells apart
        return Polynomial(((Fraction(max(sizes)), ()),))
    return _table(points, sizes)


def _table(points: Sequence[Point], sizes: Sequence[int]) -> StepTable:
    largest: dict[int, int] = {}
    for point, size in zip(points, sizes, strict=True):
        tokens = point.batch_size * point.seq_len
        largest[tokens] = max(size, largest.get(tokens, 0))
    return StepTable(tuple(sorted(largest.items())))


@cache
def _candidates() -> tuple[tuple[Monomial, ...], ...]:
    """What a polynomial may be made of, the simplest first."""
    plain = [tuple(chosen) for count in range(1, _MAX_TERMS + 1) for chosen in combinations(_PLAIN, count)]
    rounded = [chosen for multiple in _MULTIPLES for chosen in _with_rounded(multiple)]
    return tuple(sorted([*plain, *rounded], key=len))


def _with_rounded(multiple: int) -> Iterator[tuple[Monomial, ...]]:
    """Sums in which one product has a length, or the tokens, rounded up."""
    length, tokens = SizeFactor("s", multiple), SizeFactor("b*s", multiple)
    rounded: tuple[Monomial, ...] = (
        (_BATCH, length),
        (tokens,),
        (length,),
        (_BATCH, _LENGTH, length),
        (_LENGTH, length),
        (_BATCH, length, length),
        (length, length),
    )
    for monomial in rounded:
        yield (monomial,)
        for count in range(1, _MAX_TERMS):
            yield from ((monomial, *others) for others in combinations(_PLAIN, count))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What a polynomial may be made of, at some points.

    Attributes:
        monomials: its products.
        columns: the value of each at every point.
        few: the places of points that are enough to solve it; of all, where those do not tell its products
            apart.
    """

    monomials: tuple[Monomial, ...]
    columns: tuple[tuple[int, ...], ...]
    few: Sequence[int]


@lru_cache(maxsize=4)
def _candidates_at(points: tuple[Point, ...]) -> tuple[_Candidate, ...]:
    """What polynomials that these points could refute may be made of, the simplest first."""
    columns: dict[Monomial, tuple[int, ...]] = {}
    found = []
    for monomials in _candidates():
        num_rows = len(monomials) + _NUM_SPARE
        if num_rows > len(points):
            break
        for monomial in monomials:
            if monomial not in columns:
                columns[monomial] = tuple(_value(monomial, point) for point in points)
        chosen = tuple(columns[monomial] for monomial in monomials)
        spread = [index * (len(points) - 1) // (num_rows - 1) for index in range(num_rows)]
        for few in (spread, range(len(points))):
            if _eliminate([[*(column[index] for column in chosen), 0] for index in few]) is not None:
                found.append(_Candidate(monomials, chosen, few))
                break  # else these points do not tell the products apart
    return tuple(found)


def _solve(candidate: _Candidate, sizes: Sequence[int]) -> list[Fraction] | None:
    """The coefficients, none of them 0, if there are any that hold at every point; exact throughout."""
    rows = [[*(column[index] for column in candidate.columns), sizes[index]] for index in candidate.few]
    top = _eliminate(rows)
    if top is None:
        return None
    coefficients = [Fraction(row[-1], row[index]) for index, row in enumerate(top)]
    if not all(coefficients):
        return None
    for values, size in zip(zip(*candidate.columns, strict=True), sizes, strict=True):
        if sum(map(mul, coefficients, values)) != size:
            return None
    return coefficients


def _eliminate(rows: list[list[int]]) -> list[list[int]] | None:
    """As many rows as there are unknowns, each with one of them; None where the rows do not agree on them."""
    count = len(rows[0]) - 1
    for column in range(count):
        pivot = next((index for index in range(column, len(rows)) if rows[index][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        top = rows[column]
        for index, row in enumerate(rows):
            if index != column and row[column]:
                own, other = top[column], row[column]
                rows[index] = [own * value - other * above for value, above in zip(row, top, strict=True)]
    return None if any(row[-1] for row in rows[count:]) else rows[:count]


def _value(monomial: Monomial, point: Point) -> int:
    product = 1
    for factor in monomial:
        product *= factor.value(point.batch_size, point.seq_len)
    return product
