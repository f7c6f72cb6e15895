from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.units import GIB, KIB, MIB, TIB, format_bytes, parse_bytes

sizes = st.integers(min_value=0, max_value=2**60)


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1.00 KiB"),
        (GIB + GIB // 4, "1.25 GiB"),
        (2 * TIB, "2.00 TiB"),
        (5000 * TIB, "5000.00 TiB"),
        (-3 * GIB, "-3.00 GiB"),
    ],
)
def test_bytes_are_shown_in_the_largest_binary_unit(n: int, shown: str) -> None:
    assert format_bytes(n) == shown


@pytest.mark.parametrize("n", [MIB - 1, GIB - 1, TIB - 1])
def test_rounding_never_shows_1024_of_a_unit(n: int) -> None:
    assert format_bytes(n).startswith("1.00 ")


@given(sizes)
def test_shown_bytes_are_within_half_of_the_last_digit(n: int) -> None:
    number, unit = format_bytes(n).split()
    factor = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}[unit]
    assert abs(float(number) * factor - n) <= factor * 0.005001


@given(sizes)
def test_shown_bytes_have_at_most_four_digits_before_the_point(n: int) -> None:
    number, unit = format_bytes(n).split()
    assert unit == "TiB" or float(number) < 1024
    assert re.fullmatch(r"\d+(\.\d\d)?", number)


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("512", 512),
        ("512 B", 512),
        ("2TiB", 2 * TIB),
        ("24 GiB", 24 * GIB),
        ("24gib", 24 * GIB),
        ("80GB", 80 * 10**9),
        ("1.5 MiB", 3 * MIB // 2),
        (" 1_024 ", 1024),
        ("0.1 TB", 10**11),
    ],
)
def test_binary_and_decimal_sizes_are_read(text: str, n: int) -> None:
    assert parse_bytes(text) == n


@given(n=st.integers(0, 2**40), unit=st.sampled_from([("KiB", KIB), ("GiB", GIB), ("TB", 10**12), ("", 1)]))
def test_a_whole_number_of_a_unit_is_read_exactly(n: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{n}{unit[0]}") == n * unit[1]


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1", "1e9", "two GiB", "1.5", "0.3 B", "24 GiB more", "٣GiB", "1 2"]
)
def test_text_that_is_no_whole_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_bytes(text)


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(ValueError, match="'GiX' is no unit of bytes"):
        parse_bytes("3GiX")
