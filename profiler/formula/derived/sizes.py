"""What a request asks for, as it follows from batch size and length: an exact polynomial, or a table.

A polynomial is written as people write one: `4096*b*s + 128*b*up(s,64)`, with `b` the batch size, `s` the
length and `up(x,m)` the next multiple of m at or above x, of `s` or of the tokens `b*s`. Coefficients may be
fractions (`1/2*b*s`); the sum is a whole number of bytes wherever it holds.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeAlias

WORKSPACE = "workspace"
"""What cuBLAS takes for a thread's products: it follows from the card alone."""

_FACTOR = re.compile(r"(?P<plain>b|s)|up\((?P<of>s|b\*s),(?P<multiple>[1-9]\d{0,5})\)")
_TERM = re.compile(
    r"(?P<number>-?\d{1,18}(?:/[1-9]\d{0,8})?)"
    r"(?P<factors>(?:\*(?:b|s|up\((?:s|b\*s),[1-9]\d{0,5}\))){0,4})"
)
_STEP = re.compile(r"(?P<tokens>\d{1,12}):(?P<size>\d{1,18})")
_TABLE = "by tokens "
_MOST_TERMS = 8
"""Of a polynomial; none of ours has as many."""
_MOST_STEPS = 1024
"""Of a table; none of ours has as many."""


class SizeFactor(NamedTuple):
    """A part of a product: `b`, `s`, or one of `s` and `b*s` rounded up to a multiple, 1 for none."""

    of: str
    multiple: int = 1

    def value(self, batch_size: int, seq_len: int) -> int:
        """Its value for a batch."""
        value = {"b": batch_size, "s": seq_len, "b*s": batch_size * seq_len}[self.of]
        return -(-value // self.multiple) * self.multiple

    def __str__(self) -> str:
        """As it is written."""
        return self.of if self.multiple == 1 else f"up({self.of},{self.multiple})"


Monomial: TypeAlias = tuple[SizeFactor, ...]
"""A product of factors; 1 if it has none."""


class SizeBand(NamedTuple):
    """A number of bytes, and between which it lies; the three are one where it is known exactly."""

    value: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A size that is known exactly: a sum of products, each with its coefficient."""

    terms: tuple[tuple[Fraction, Monomial], ...]

    def at(self, batch_size: int, seq_len: int) -> SizeBand:
        """The bytes for a batch; at least 1, as there are no empty requests."""
        total = Fraction(0)
        for coefficient, monomial in self.terms:
            product = 1
            for factor in monomial:
                product *= factor.value(batch_size, seq_len)
            total += coefficient * product
        value = max(1, -(-total.numerator // total.denominator))
        return SizeBand(value, value, value)

    def __str__(self) -> str:
        """As it is written."""
        return " + ".join("*".join(map(str, (number, *monomial))) for number, monomial in self.terms)


@dataclass(frozen=True, slots=True)
class StepTable:
    """A size that is no polynomial, or depends on the data: known for some numbers of tokens, in their order.

    Between two of them it is taken to lie between theirs, in proportion.
    """

    steps: tuple[tuple[int, int], ...]

    def at(self, batch_size: int, seq_len: int) -> SizeBand:
        """The bytes for a batch."""
        tokens = batch_size * seq_len
        index = bisect_left(self.steps, (tokens, 0))
        if index < len(self.steps) and self.steps[index][0] == tokens:
            size = self.steps[index][1]
            return SizeBand(size, size, size)
        below = self.steps[max(0, index - 1)]
        above = self.steps[min(index, len(self.steps) - 1)]
        low, high = sorted((below[1], above[1]))
        if below == above:  # beyond all that was seen
            size = max(1, below[1] * tokens // max(1, below[0]))
            return SizeBand(size, min(size, low), max(size, high))
        share = Fraction(tokens - below[0], above[0] - below[0])
        return SizeBand(round(below[1] + share * (above[1] - below[1])), low, high)

    def __str__(self) -> str:
        """As it is written."""
        return _TABLE + " ".join(f"{tokens}:{size}" for tokens, size in self.steps)


@dataclass(frozen=True, slots=True)
class Workspace:
    """What cuBLAS takes on the card."""

    def __str__(self) -> str:
        """As it is written."""
        return WORKSPACE


Size: TypeAlias = Polynomial | StepTable | Workspace


def parse_size(text: str) -> Size:
    """A size as it is written.

    Raises:
        ValueError: it is none.
    """
    if text == WORKSPACE:
        return Workspace()
    if text.startswith(_TABLE):
        return _parse_table(text.removeprefix(_TABLE))
    terms = text.split(" + ", _MOST_TERMS)
    if len(terms) > _MOST_TERMS:
        raise ValueError(f"more than {_MOST_TERMS} terms of a size")
    return Polynomial(tuple(map(_parse_term, terms)))


def _parse_table(text: str) -> StepTable:
    matches = [_STEP.fullmatch(step) for step in text.split(" ", _MOST_STEPS)]
    steps = tuple((int(match["tokens"]), int(match["size"])) for match in matches if match)
    if len(steps) != len(matches) or list(steps) != sorted(set(steps)):
        raise ValueError(f"no table of sizes: {text[:80]!r}")
    return StepTable(steps)


def _parse_term(text: str) -> tuple[Fraction, Monomial]:
    match = _TERM.fullmatch(text)
    if match is None:
        raise ValueError(f"no term of a size: {text[:80]!r}")
    factors = _FACTOR.finditer(match["factors"])
    monomial = tuple(
        SizeFactor(found["plain"]) if found["plain"] else SizeFactor(found["of"], int(found["multiple"]))
        for found in factors
    )
    return Fraction(match["number"]), monomial
