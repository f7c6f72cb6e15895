from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.allocator.sizes import LARGE_SEGMENT_BYTES, round_request, segment_size
from profiler.units import GIB, MIB


@pytest.mark.parametrize(
    ("asked", "rounded"), [(1, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512)]
)
def test_a_request_is_rounded_up_to_512_bytes(asked: int, rounded: int) -> None:
    assert round_request(asked) == rounded


# The example of `roundup_power2_next_division`: 1200 between 1024 and 2048, in four parts.
@pytest.mark.parametrize(
    ("asked", "rounded"), [(1200 * MIB, 1280 * MIB), (1024 * MIB, 1024 * MIB), (1025 * MIB, 1280 * MIB)]
)
def test_a_power_of_2_is_divided_and_a_request_fills_its_part(asked: int, rounded: int) -> None:
    assert round_request(asked, (4,) * 16) == rounded


def test_each_power_of_2_may_have_divisions_of_its_own() -> None:
    divisions = (2, 0, 8, *[0] * 13)
    assert round_request(MIB + 1, divisions) == MIB + MIB // 2
    assert round_request(2 * MIB + 1, divisions) == 2 * MIB + 512
    assert round_request(4 * MIB + 1, divisions) == 4 * MIB + MIB // 2
    assert round_request(600 * 1024, divisions) == 768 * 1024  # below 1 MiB the first ones hold


@given(asked=st.integers(1, 200 * GIB), parts=st.sampled_from([0, 1, 2, 4, 8, 16]))
def test_a_block_is_whole_units_and_never_less_than_was_asked_for(asked: int, parts: int) -> None:
    rounded = round_request(asked, (parts,) * 16)
    assert rounded >= asked
    assert rounded % 512 == 0
    assert round_request(rounded, (parts,) * 16) == rounded


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
    ],
)
def test_a_segment_is_as_large_as_torch_makes_it_for_a_block(size: int, segment: int) -> None:
    assert segment_size(size, LARGE_SEGMENT_BYTES) == segment
