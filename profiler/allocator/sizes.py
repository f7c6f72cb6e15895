"""What a request becomes: the block it is rounded up to, and the segment that is made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of torch's c10/cuda/CUDACachingAllocator.cpp; since 2.9 of c10/core/AllocatorConfig.h.
MIN_BLOCK_BYTES = 512
"""`kMinBlockSize`: what sizes are rounded up to."""
SMALL_BYTES = MIB
"""`kSmallSize`: the largest request that the small pool serves."""
SMALL_SEGMENT_BYTES = 2 * MIB
"""`kSmallBuffer`: a segment of the small pool."""
LARGE_SEGMENT_BYTES = 20 * MIB
"""`kLargeBuffer`: a segment that requests below `MIN_LARGE_BYTES` share, unless `large_segment_size_mb`."""
MIN_LARGE_BYTES = 10 * MIB
"""`kMinLargeAlloc`: requests of this size and more get a segment of their own."""
ROUND_LARGE_BYTES = 2 * MIB
"""`kRoundLarge`: what such a segment is rounded up to."""

NUM_DIVISIONS = 16
"""`kRoundUpPowerOfTwoIntervals`: powers of 2 from 1 MiB up, each of which may have its own divisions."""
_FIRST_DIVISION = MIB.bit_length()


def round_up(size_bytes: int, unit_bytes: int) -> int:
    """A size as a multiple of a unit."""
    return -(-size_bytes // unit_bytes) * unit_bytes


def round_request(requested_bytes: int, divisions: Sequence[int] = ()) -> int:
    """The block that a request needs (`DeviceCachingAllocator::round_size`).

    Args:
        requested_bytes: what is asked for.
        divisions: into how many parts each power of 2 is divided, of which one is filled up; none for no
            such rounding (`roundup_power2_divisions`).
    """
    if requested_bytes < MIN_BLOCK_BYTES:
        return MIN_BLOCK_BYTES
    if divisions:
        interval = requested_bytes.bit_length() - _FIRST_DIVISION
        parts = divisions[min(max(interval, 0), NUM_DIVISIONS - 1)]
        if parts > 1 and requested_bytes > MIN_BLOCK_BYTES * parts:
            return _fill_division(requested_bytes, parts)
    return round_up(requested_bytes, MIN_BLOCK_BYTES)


def segment_size(size_bytes: int, large_segment_bytes: int) -> int:
    """The segment that is made for a block (`get_allocation_size`)."""
    if size_bytes <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size_bytes < MIN_LARGE_BYTES:
        return large_segment_bytes
    return round_up(size_bytes, ROUND_LARGE_BYTES)


def _fill_division(size_bytes: int, parts: int) -> int:
    """The end of the part that a size lies in (`roundup_power2_next_division`); a power of 2 stays."""
    power = 1 << (size_bytes.bit_length() - 1)
    return round_up(size_bytes, power // parts) if power > parts else power << 1
