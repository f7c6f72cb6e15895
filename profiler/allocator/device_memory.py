"""What the driver gives an allocator: bytes, until the card has no more, and addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.allocator.sizes import round_up
from profiler.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE_BYTES = 2 * MIB
"""What memory is given out by: `cuMemGetAllocationGranularity` of the cards of the catalogue."""


class AllocationFailedError(Exception):
    """A request found no memory, on the card or among what is cached.

    Attributes:
        requested_bytes: what was asked for.
        segment_bytes: the segment that could not be made, which torch's message names.
    """

    def __init__(self, requested_bytes: int, segment_bytes: int) -> None:
        """A request that failed."""
        super().__init__(requested_bytes, segment_bytes)
        self.requested_bytes = requested_bytes
        self.segment_bytes = segment_bytes


class DeviceMemory:
    """The memory of a card as one process may have it, and where it lies.

    Attributes:
        reserved_bytes: what the process has, as the allocator counts it (`total_allocated_memory`).
        reserved_peak_bytes: the most it ever had.
        allowed_bytes: more the allocator does not ask for (`allowed_memory_maximum`); None for no such limit.
    """

    def __init__(
        self,
        *,
        capacity_bytes: int | None = None,
        allowed_bytes: int | None = None,
        reuses_addresses: bool = False,
    ) -> None:
        """All of it is free.

        Args:
            capacity_bytes: what is free on the card for this process; None for no end.
            allowed_bytes: more than this is not asked for.
            reuses_addresses: whether memory is put where there is a hole, the lowest first, as drivers do, or
                always after all that was. Only what the allocator does with equal blocks depends on it.
        """
        self.reserved_bytes = 0
        self.reserved_peak_bytes = 0
        self.allowed_bytes = allowed_bytes
        self._capacity_bytes = capacity_bytes
        self._held_bytes = 0
        self._reuses_addresses = reuses_addresses
        self._holes: list[tuple[int, int]] = []  # start and end, by address
        self._end = PAGE_BYTES

    def reserve(self, size_bytes: int) -> bool:
        """Take memory without an address; whether there was as much."""
        held_bytes = self._held_bytes + round_up(size_bytes, PAGE_BYTES)
        if self._capacity_bytes is not None and held_bytes > self._capacity_bytes:
            return False
        self._held_bytes = held_bytes
        self.reserved_bytes += size_bytes
        self.reserved_peak_bytes = max(self.reserved_peak_bytes, self.reserved_bytes)
        return True

    def release(self, size_bytes: int) -> None:
        """Give memory back."""
        self._held_bytes -= round_up(size_bytes, PAGE_BYTES)
        self.reserved_bytes -= size_bytes

    def is_allowed(self, size_bytes: int) -> bool:
        """Whether the allocator may ask for so much more."""
        return self.allowed_bytes is None or self.reserved_bytes + size_bytes <= self.allowed_bytes

    def place(self, size_bytes: int) -> int:
        """An address for a new segment."""
        length = round_up(size_bytes, PAGE_BYTES)
        for index, (start, end) in enumerate(self._holes):
            if end - start >= length:
                self._holes[index : index + 1] = [(start + length, end)] if end - start > length else []
                return start
        self._end += length
        return self._end - length

    def displace(self, address: int, size_bytes: int) -> None:
        """A segment is gone from its address."""
        if not self._reuses_addresses:
            return
        end = address + round_up(size_bytes, PAGE_BYTES)
        self._holes = _joined(sorted([*self._holes, (address, end)]))


def _joined(holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in holes:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
