"""From sizes that were seen at some points to what they are everywhere: exact polynomials, or tables."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

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

_Row: TypeAlias = tuple[int, ...]


def solve_size(points: Sequence[Point], sizes: Sequence[int]) -> Size:
    """The simplest polynomial that gives these sizes at these points exactly; a table where there is none.

    Args:
        points: where the size was seen.
        sizes: what it was there, in bytes.
    """
    if len(set(sizes)) == 1:
        return Polynomial(((Fraction(sizes[0]), ()),))
    for monomials in _candidates():
        if len(monomials) + _NUM_SPARE > len(points):
            continue
        coefficients = _solve(monomials, points, sizes)
        if coefficients is not None:
            return Polynomial(tuple(zip(coefficients, monomials, strict=True)))
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


def _solve(
    monomials: tuple[Monomial, ...], points: Sequence[Point], sizes: Sequence[int]
) -> list[Fraction] | None:
    """The coefficients, none of them 0, if there are any that hold at every point; exact throughout."""
    rows = [[*_values(monomials, point), size] for point, size in zip(points, sizes, strict=True)]
    count = len(monomials)
    for column in range(count):
        pivot = next((index for index in range(column, len(rows)) if rows[index][column]), None)
        if pivot is None:
            return None  # these points do not tell the products apart
        rows[column], rows[pivot] = rows[pivot], rows[column]
        top = rows[column]
        for index, row in enumerate(rows):
            if index != column and row[column]:
                own, other = top[column], row[column]
                rows[index] = [own * value - other * above for value, above in zip(row, top, strict=True)]
        # A row of what is left is all zeros where the equations agree: looked at as early as possible.
        if column == count - 1 and any(row[-1] for row in rows[count:]):
            return None
    coefficients = [Fraction(rows[index][-1], rows[index][index]) for index in range(count)]
    return coefficients if all(coefficients) else None


@cache
def _values(monomials: tuple[Monomial, ...], point: Point) -> _Row:
    return tuple(_value(monomial, point) for monomial in monomials)


@cache
def _value(monomial: Monomial, point: Point) -> int:
    product = 1
    for factor in monomial:
        product *= factor.value(point.batch_size, point.seq_len)
    return product
