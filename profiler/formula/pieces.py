"""What a formula says of every batch size and length at once: each term the largest of a few polynomials.

Nothing of a formula is written twice for it: it is evaluated as ever, on quantities that remember how they
came about instead of being numbers. What comes out can be evaluated anywhere, in a browser too.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from profiler.formula.breakdown import Breakdown, Shape
from profiler.jobs.job import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Formula, Quantity
    from profiler.jobs.job import JobSpec

MONOMIALS: Final = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
"""Powers of batch size and of length that a polynomial may have, in the order of its coefficients."""
_PLACES: Final = {powers: place for place, powers in enumerate(MONOMIALS)}

Polynomial: TypeAlias = tuple[float, ...]
"""A coefficient for each of `MONOMIALS`; whole numbers of bytes, exact below 2^53."""
_ZERO: Final[Polynomial] = (0.0,) * len(MONOMIALS)


class NotPiecewiseError(Exception):
    """A formula does something that no largest of polynomials can express."""


class UndecidedError(Exception):
    """What a formula does hangs on whether the length is at least `seq_len`."""

    def __init__(self, seq_len: int) -> None:
        """From this length on something else holds."""
        super().__init__(f"decided by whether the length is at least {seq_len}")
        self.seq_len = seq_len


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """A quantity of every batch size and length: the largest of some polynomials of the two.

    It stands in for a number in a formula. The one thing it leaves out is rounding: `size // n` divides, and
    a tensor whose size is no multiple of 512 bytes counts as it is, at most 511 bytes too little.

    Attributes:
        polynomials: none of which is never the largest for being below another in every coefficient.
        min_seq_len: the smallest length it is asked of.
        max_seq_len: the largest.
    """

    polynomials: tuple[Polynomial, ...]
    min_seq_len: int
    max_seq_len: int

    def at(self, batch_size: int, seq_len: int) -> float:
        """Its value for one batch."""
        powers: list[int] = [batch_size**batch * seq_len**length for batch, length in MONOMIALS]
        return max(
            sum(value * power for value, power in zip(one, powers, strict=True)) for one in self.polynomials
        )

    def __add__(self, other: object) -> Pieces:
        """The largest of all sums of two polynomials."""
        others = self._read(other)
        if len(others) == 1:
            return self._each(tuple(map(operator.add, one, others[0])) for one in self.polynomials)
        return self._with(_sum(one, two) for one in self.polynomials for two in others)

    def __sub__(self, other: object) -> Pieces:
        """Less a single polynomial: a difference of two largest is no largest."""
        taken = self._single(other)
        return self._each(tuple(map(operator.sub, one, taken)) for one in self.polynomials)

    def __rsub__(self, other: object) -> Pieces:
        """A single polynomial or a number, less this single polynomial."""
        return self._each(self._read(other)) - self

    def __mul__(self, other: object) -> Pieces:
        """Times a number, which must not turn the largest into the smallest; or times a polynomial."""
        factor = self._single(other)
        if len(self.polynomials) > 1 and (factor[1:] != _ZERO[1:] or factor[0] < 0):
            raise NotPiecewiseError("a largest times something that is no positive number")
        return self._each(_product(one, factor) for one in self.polynomials)

    def __floordiv__(self, divisor: object) -> Pieces:
        """Divided by a positive number, with no rounding."""
        if not isinstance(divisor, int) or divisor <= 0:
            raise NotPiecewiseError(f"divided by {divisor!r}")
        return self._each(tuple([value / divisor for value in one]) for one in self.polynomials)

    def __neg__(self) -> Pieces:
        """Of a single polynomial."""
        return self._each([tuple(map(operator.neg, self._single(self)))])

    def __ge__(self, other: object) -> bool:
        """Whether it is at least a number, at every length that it is asked of."""
        constant, per_token = self._of_length_alone(other)
        reached = -(-(_number(other) - constant) // per_token)
        if reached <= self.min_seq_len:
            return True
        if reached > self.max_seq_len:
            return False
        raise UndecidedError(int(reached))

    def __gt__(self, other: object) -> bool:
        """Of whole numbers: at least the next one."""
        return self >= _number(other) + 1

    def __lt__(self, other: object) -> bool:
        """Not at least."""
        return not self >= other

    def __le__(self, other: object) -> bool:
        """Not above."""
        return not self > other

    __radd__ = __add__
    __rmul__ = __mul__

    def __array_ufunc__(self, ufunc: object, method: str, *inputs: object, **options: object) -> Pieces:
        """What numpy does where it meets such a quantity: its own operators, and the larger of two."""
        name = getattr(ufunc, "__name__", "")
        if method != "__call__" or options or name not in _UFUNCS:
            raise NotPiecewiseError(f"numpy's {name}")
        return _UFUNCS[name](*(one if isinstance(one, Pieces) else _number(one) for one in inputs))

    def _each(self, polynomials: Iterable[Polynomial]) -> Pieces:
        """What came of every polynomial in the same way, so that none of them is below another now."""
        return Pieces(tuple(polynomials), self.min_seq_len, self.max_seq_len)

    def _with(self, polynomials: Iterable[Polynomial]) -> Pieces:
        """Those of some polynomials that can be the largest."""
        found = tuple(dict.fromkeys(polynomials))
        if len(found) > 1:
            found = tuple(
                one for one in found if not any(_is_below(one, two) for two in found if two is not one)
            )
        return Pieces(found, self.min_seq_len, self.max_seq_len)

    def _read(self, other: object) -> tuple[Polynomial, ...]:
        return other.polynomials if isinstance(other, Pieces) else ((float(_number(other)), *_ZERO[1:]),)

    def _single(self, other: object) -> Polynomial:
        polynomials = self._read(other)
        if len(polynomials) > 1:
            raise NotPiecewiseError("a largest where one polynomial is needed")
        return polynomials[0]

    def _of_length_alone(self, other: object) -> tuple[float, float]:
        """The coefficients of a polynomial that a decision may hang on: it grows with the length alone."""
        one = self._single(self)
        constant, per_token = one[0], one[1]
        if isinstance(other, Pieces) or per_token <= 0 or one[2:] != _ZERO[2:]:
            raise NotPiecewiseError("a decision that does not hang on the length alone")
        return constant, per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What a formula says of a range of lengths.

    Attributes:
        min_seq_len: the first length.
        max_seq_len: the last one.
        breakdown: its terms; each an int where the batch does not matter, else `Pieces`.
    """

    min_seq_len: int
    max_seq_len: int
    breakdown: Breakdown


def follow(formula: Formula, job: JobSpec, architecture: Architecture) -> tuple[Section, ...]:
    """What a formula says of a job at every batch size and length; `batch_size` and `seq_len` are not read.

    Lengths fall into several sections where something else holds from a certain length on.

    Raises:
        NotPiecewiseError: if no largest of polynomials can express it.
    """
    return tuple(_follow(formula, job, architecture, first=1, last=MAX_TOKENS))


def _follow(
    formula: Formula, job: JobSpec, architecture: Architecture, *, first: int, last: int
) -> list[Section]:
    try:
        breakdown = formula.evaluate(job, architecture, _shape(first, last))
    except UndecidedError as error:
        below = _follow(formula, job, architecture, first=first, last=error.seq_len - 1)
        return below + _follow(formula, job, architecture, first=error.seq_len, last=last)
    return [Section(min_seq_len=first, max_seq_len=last, breakdown=breakdown)]


def _shape(first: int, last: int) -> Shape:
    batch_size, seq_len = (Pieces((_monomial(powers),), first, last) for powers in ((1, 0), (0, 1)))
    return Shape(batch_size=cast("Quantity", batch_size), seq_len=cast("Quantity", seq_len))


def _monomial(powers: tuple[int, int]) -> Polynomial:
    return tuple(float(place == _PLACES[powers]) for place in range(len(MONOMIALS)))


def _sum(one: Polynomial, two: Polynomial) -> Polynomial:
    return tuple(map(operator.add, one, two))


def _product(one: Polynomial, two: Polynomial) -> Polynomial:
    if two[1:] == _ZERO[1:]:
        return tuple([value * two[0] for value in one])
    result = list(_ZERO)
    for powers, value in zip(MONOMIALS, one, strict=True):
        for others, factor in zip(MONOMIALS, two, strict=True):
            if value and factor:
                together = (powers[0] + others[0], powers[1] + others[1])
                if together not in _PLACES:
                    raise NotPiecewiseError(f"batch size to the {together[0]} x length to the {together[1]}")
                result[_PLACES[together]] += value * factor
    return tuple(result)


def _is_below(one: Polynomial, two: Polynomial) -> bool:
    """Whether one is nowhere above the other, for no coefficient is."""
    return all(map(operator.le, one, two))


def _number(value: object) -> int:
    if not isinstance(value, Integral):  # numpy's whole numbers are, too
        raise NotPiecewiseError(f"{value!r} is no whole number")
    return int(value)


def _larger(one: object, two: object) -> Pieces:
    own = one if isinstance(one, Pieces) else two
    assert isinstance(own, Pieces), "numpy calls it for such quantities only"
    return own._with((*own._read(one), *own._read(two)))


_UFUNCS: Final[Mapping[str, Callable[..., Pieces]]] = MappingProxyType(
    {
        "maximum": _larger,
        "add": operator.add,
        "subtract": operator.sub,
        "multiply": operator.mul,
        "floor_divide": operator.floordiv,
    }
)
