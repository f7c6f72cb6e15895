from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from profiler.derive.observe import Point
from profiler.derive.regimes import first_points
from profiler.derive.solve import solve_size
from profiler.formula.derived.sizes import Monomial, Polynomial, SizeFactor, StepTable, parse_size

LONGEST = 4096
SEEN = list(first_points(LONGEST))
B, S = SizeFactor("b"), SizeFactor("s")
PLAIN: list[Monomial] = [(), (B, S), (S,), (B,), (B, S, S), (S, S)]
points = st.builds(Point, st.integers(1, 8), st.integers(64, LONGEST))


@st.composite
def monomials(draw: st.DrawFn) -> tuple[Monomial, ...]:
    """Up to three products, of which one may have a length or the tokens rounded up."""
    chosen = draw(st.lists(st.sampled_from(PLAIN), max_size=3, unique=True))
    multiple = 1 << draw(st.integers(1, 12))
    up, tokens = SizeFactor("s", multiple), SizeFactor("b*s", multiple)
    rounded: list[Monomial] = [(B, up), (tokens,), (up,), (B, S, up), (S, up), (B, up, up), (up, up)]
    if not chosen or (len(chosen) < 3 and draw(st.booleans())):
        chosen.insert(0, draw(st.sampled_from(rounded)))
    return tuple(chosen)


@st.composite
def polynomials(draw: st.DrawFn) -> Polynomial:
    numbers = st.one_of(st.integers(1, 10**9), st.integers(-1000, -1), st.just(Fraction(1, 2)))
    chosen = draw(monomials())
    return Polynomial(tuple((Fraction(draw(numbers)), monomial) for monomial in chosen))


def exact(polynomial: Polynomial, point: Point) -> Fraction:
    total = Fraction(0)
    for number, monomial in polynomial.terms:
        product = 1
        for factor in monomial:
            product *= factor.value(*point)
        total += number * product
    return total


@given(polynomials(), points)
def test_a_polynomial_is_found_again_from_the_first_points(truth: Polynomial, point: Point) -> None:
    sizes = [exact(truth, one) for one in (*SEEN, point)]
    assume(all(size.denominator == 1 and size > 0 for size in sizes))
    found = solve_size(SEEN, [int(size) for size in sizes[:-1]])
    assert isinstance(found, Polynomial)
    assert found.at(*point).value == sizes[-1]
    assert parse_size(str(found)) == found


@settings(max_examples=20)  # all that a size may be is tried before it is a table
@given(st.lists(st.integers(1, 10**10), min_size=len(SEEN), max_size=len(SEEN)))
def test_sizes_that_follow_no_rule_are_a_table(sizes: list[int]) -> None:
    assume(len({-(-size // 512) for size in sizes}) > 5)
    found = solve_size(SEEN, sizes)
    assert isinstance(found, StepTable)
    largest: dict[int, int] = {}
    for point, size in zip(SEEN, sizes, strict=True):
        largest[point.tokens] = max(size, largest.get(point.tokens, 0))
    assert all(found.at(*point).value == largest[point.tokens] for point in SEEN)


@settings(max_examples=20)
@given(polynomials(), st.integers(0, len(SEEN) - 1), st.integers(513, 10**6))
def test_one_size_that_does_not_belong_makes_it_a_table(truth: Polynomial, index: int, off: int) -> None:
    sizes = [exact(truth, one) for one in SEEN]
    assume(all(size.denominator == 1 and size > 0 for size in sizes))
    sizes[index] += off
    assert isinstance(solve_size(SEEN, [int(size) for size in sizes]), StepTable)


@given(st.integers(1, 10**12), st.integers(1, 6))
def test_what_is_always_the_same_is_a_constant(size: int, count: int) -> None:
    assert solve_size(SEEN[:count], [size] * count) == Polynomial(((Fraction(size), ()),))


def test_what_the_allocator_does_not_tell_apart_is_a_constant_too() -> None:
    sizes = [1 + 7 * index % 500 for index in range(len(SEEN))]
    assert solve_size(SEEN, sizes) == Polynomial(((Fraction(max(sizes)), ()),))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_polynomial_that_more_points_could_refute_is_not_believed(count: int) -> None:
    """Two points more than terms must agree; any two sizes lie on some line."""
    few = [Point(1, length) for length in (64, 97, 128, 193)][:count]
    sizes = [1000 * one.seq_len + 7 * 512 for one in few]
    assert isinstance(solve_size(few, sizes), Polynomial if count >= 4 else StepTable)


def test_of_several_the_simplest_is_taken() -> None:
    assert str(solve_size(SEEN, [4096 * one.tokens for one in SEEN])) == "4096*b*s"


@pytest.mark.parametrize("longest", [512, 2048, 4096, 131_072])
def test_the_first_points_tell_what_is_padded_to_one_multiple_from_any_other(longest: int) -> None:
    lengths = [one.seq_len for one in first_points(longest)]
    multiples = [1 << power for power in range(13) if 1 << power < longest]
    for one, other in combinations(multiples, 2):
        shares = {Fraction(-(-length // one) * one, -(-length // other) * other) for length in lengths}
        assert len(shares) > 1, (one, other)
    assert all(one < other for one, other in pairwise(sorted(set(lengths))))
