from __future__ import annotations

import pytest

from profiler.measure.block_sizes import BlockSizes
from profiler.units import MIB

START = 0x7000_0000_0000


@pytest.mark.parametrize(("asked", "size"), [(1, 512), (512, 512), (513, 1024), (5 * MIB + 1, 5 * MIB + 512)])
def test_a_block_is_a_multiple_of_512_bytes(asked: int, size: int) -> None:
    sizes = BlockSizes()
    sizes.segment_began(START, 20 * MIB)
    assert sizes.allocated(START, asked) == size


def test_a_rest_of_up_to_a_mebibyte_is_not_split_off_a_large_block() -> None:
    sizes = BlockSizes()
    sizes.segment_began(START, 20 * MIB)
    assert sizes.allocated(START, 19 * MIB) == 20 * MIB
    sizes.is_free(START)
    assert sizes.allocated(START, 19 * MIB - 512) == 19 * MIB - 512
    assert sizes.allocated(START + 19 * MIB - 512, MIB) == MIB


def test_the_small_pool_splits_off_whatever_is_left() -> None:
    sizes = BlockSizes()
    sizes.segment_began(START, 2 * MIB)
    assert sizes.allocated(START, MIB) == MIB
    assert sizes.allocated(START + MIB, MIB - 512) == MIB - 512


def test_free_neighbours_become_one_block() -> None:
    sizes = BlockSizes()
    sizes.segment_began(START, 20 * MIB)
    places = [START, START + 5 * MIB, START + 10 * MIB]
    for place in places:
        sizes.allocated(place, 5 * MIB)
    for place in (places[0], places[2], places[1]):
        sizes.is_free(place)
    assert sizes.allocated(START, 19 * MIB + 512) == 20 * MIB


def test_segments_beside_each_other_stay_apart() -> None:
    sizes = BlockSizes()
    for place in (START, START + 20 * MIB):
        sizes.segment_began(place, 20 * MIB)
        sizes.allocated(place, 20 * MIB)
    for place in (START, START + 20 * MIB):
        sizes.is_free(place)
    assert sizes.allocated(START, 19 * MIB + 512) == 20 * MIB


def test_a_segment_that_was_given_back_leaves_no_border() -> None:
    sizes = BlockSizes()
    sizes.segment_began(START, 10 * MIB)
    sizes.segment_ended(START, 10 * MIB)
    sizes.segment_began(START, 40 * MIB)
    for place in (START, START + 10 * MIB):
        sizes.allocated(place, 10 * MIB)
    for place in (START, START + 10 * MIB):
        sizes.is_free(place)
    assert sizes.allocated(START, 39 * MIB + 512) == 40 * MIB


def test_expandable_segments_leave_nothing_unsplit() -> None:
    sizes = BlockSizes("expandable_segments:True")
    assert sizes.allocated(START, 19 * MIB) == 19 * MIB
    sizes.is_free(START)
    assert sizes.allocated(START, 18 * MIB) == 18 * MIB


def test_a_block_above_max_split_size_is_given_whole() -> None:
    sizes = BlockSizes("max_split_size_mb:32")
    sizes.segment_began(START, 80 * MIB)
    assert sizes.allocated(START, 40 * MIB) == 80 * MIB
    sizes.is_free(START)
    assert sizes.allocated(START, 31 * MIB) == 31 * MIB


def test_the_allocators_own_sizes_are_taken_over() -> None:
    sizes = BlockSizes()
    sizes.segment_began(START, 20 * MIB)
    sizes.allocated(START, 5 * MIB)
    sizes.correct({START: 6 * MIB, START + 1: 3})
    sizes.is_free(START)
    assert sizes.allocated(START, 6 * MIB) == 6 * MIB
