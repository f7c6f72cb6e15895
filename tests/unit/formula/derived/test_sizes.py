from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.formula.derived.sizes import (
    Polynomial,
    Size,
    SizeBand,
    SizeFactor,
    StepTable,
    Workspace,
    parse_size,
)
from tests.unit.formula.derived.files import quickly

factors = st.one_of(
    st.sampled_from([SizeFactor("b"), SizeFactor("s")]),
    st.builds(SizeFactor, st.sampled_from(["s", "b*s"]), st.integers(2, 999_999)),
)
numbers = st.builds(Fraction, st.integers(-(10**18) + 1, 10**18 - 1), st.integers(1, 10**9 - 1))
polynomials = st.builds(
    Polynomial,
    st.lists(st.tuples(numbers, st.lists(factors, max_size=4).map(tuple)), min_size=1, max_size=8).map(tuple),
)
tables = st.builds(
    StepTable,
    st.dictionaries(st.integers(0, 10**12 - 1), st.integers(0, 10**18 - 1), min_size=1, max_size=20).map(
        lambda steps: tuple(sorted(steps.items()))
    ),
)


@given(st.one_of(polynomials, tables, st.just(Workspace())))
def test_a_size_is_read_as_it_was_written(size: Size) -> None:
    assert parse_size(str(size)) == size


@pytest.mark.parametrize(
    ("text", "batch_size", "seq_len", "size_bytes"),
    [
        ("512", 3, 100, 512),
        ("4096*b*s", 3, 100, 4096 * 300),
        ("4*b*s + 100", 3, 100, 1300),
        ("128*b*up(s,64)", 3, 100, 128 * 3 * 128),
        ("2*up(b*s,256)", 3, 100, 1024),
        ("1/2*b*s", 3, 100, 150),
        ("1/2*s*s + -3", 1, 5, 10),  # 9.5 bytes are 10
        ("-7*s", 1, 5, 1),  # no request is of less
    ],
)
def test_a_polynomial_says_the_bytes_of_a_batch(
    text: str, batch_size: int, seq_len: int, size_bytes: int
) -> None:
    size = parse_size(text)
    assert isinstance(size, Polynomial)
    assert size.at(batch_size, seq_len) == SizeBand(size_bytes, size_bytes, size_bytes)


TABLE = StepTable(((100, 1000), (200, 3000), (400, 2000)))


@pytest.mark.parametrize(
    ("tokens", "band"),
    [
        (200, SizeBand(3000, 3000, 3000)),  # seen
        (150, SizeBand(2000, 1000, 3000)),  # between two
        (300, SizeBand(2500, 2000, 3000)),  # between two, and falling
        (50, SizeBand(500, 500, 1000)),  # below all
        (800, SizeBand(4000, 2000, 4000)),  # above all
    ],
)
def test_a_table_knows_what_was_seen_and_between_what_the_rest_lies(tokens: int, band: SizeBand) -> None:
    assert TABLE.at(1, tokens) == band
    assert TABLE.at(2, tokens // 2) == band


@given(tables, st.integers(1, 64), st.integers(1, 10**6))
def test_the_value_of_a_table_lies_between_its_ends(table: StepTable, batch_size: int, seq_len: int) -> None:
    value, low, high = table.at(batch_size, seq_len)
    assert 0 <= low <= value <= high


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "b",
        "1*",
        "1*x",
        "1*b*",
        "1 +  2",
        "1*b + ",
        "+1",
        "1e9",
        "0x10",
        "1/0",
        "1/0*b",
        "1*up(s,0)",
        "1*up(s,064)",
        "1*up(b,64)",
        "1*up(s,64",
        "1*b" + "*b" * 4,
        "9" * 19,
        "1*up(s,1000000)",
        "1\n",
        "Workspace",
        "workspace ",
        "by tokens ",
        "by tokens 1",
        "by tokens 1:2 ",
        "by tokens 2:1 1:2",
        "by tokens 1:2 1:2",
        "by tokens -1:2",
        "1 + " * 200_000 + "1",
        "1" * 10_000_000,
        "1*b" + "*b" * 3_000_000,
        "by tokens " + " ".join(f"{tokens}:1" for tokens in range(500_000)),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_size_is_refused_at_once(text: str) -> None:
    with quickly(2), pytest.raises(ValueError, match=r"size"):
        parse_size(text)
