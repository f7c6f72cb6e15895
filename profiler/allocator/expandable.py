"""How expandable segments grow and shrink: memory is mapped into an address range page by page.

After `ExpandableSegment`, `find_expandable_block`, `map_block`, `try_allocate_expandable_block` and
`unmap_block` of torch's c10/cuda/CUDACachingAllocator.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.allocator.blocks import Segment
from profiler.allocator.sizes import SMALL_SEGMENT_BYTES, round_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.allocator.blocks import FreeBlocks, MemoryBlock
    from profiler.allocator.device_memory import DeviceMemory


class ExpandableSegments:
    """The expandable segments of a process.

    Attributes:
        segments: those that there are, in the order they were made.
    """

    def __init__(
        self,
        device: DeviceMemory,
        *,
        total_bytes: int,
        large_page_bytes: int,
        ages: Iterator[int] | None = None,
    ) -> None:
        """None yet.

        Args:
            device: where memory comes from.
            total_bytes: of the card; a segment has addresses for 1 1/8 of it.
            large_page_bytes: what segments of large blocks are mapped by; of small ones it is 2 MiB.
            ages: the order of new blocks; None where it is that of their addresses.
        """
        self._ages = ages
        self.segments: dict[Segment, None] = {}
        self._device = device
        self._range_bytes = total_bytes + total_bytes // 8
        self._large_page_bytes = large_page_bytes

    def allocate(self, free_blocks: FreeBlocks, size_bytes: int) -> MemoryBlock | None:
        """A block of at least that size, mapped as far as needed; None where the card has no more memory.

        What was mapped before memory ran out stays mapped, and free.
        """
        block = self._find(free_blocks, size_bytes)
        if not block.is_mapped:
            mapped = self._map(block, min(block.size_bytes, size_bytes))
            if mapped is None:
                return None
            block = mapped
        while block.size_bytes < size_bytes:
            following = block.next
            assert following is not None
            mapped = self._map(following, min(size_bytes - block.size_bytes, following.size_bytes))
            if mapped is None:
                return None
            block = mapped
        free_blocks.remove(block)
        return block

    def release(self, block: MemoryBlock) -> None:
        """Give back the whole pages of a free block, and the segment if nothing is left of it."""
        segment = block.segment
        page_bytes, base = segment.page_bytes, segment.head.address
        begin = base + round_up(block.address - base, page_bytes)
        end = base + (block.address + block.size_bytes - base) // page_bytes * page_bytes
        if begin >= end:
            return
        free_blocks = segment.free_blocks
        free_blocks.remove(block)
        middle = block
        if begin > block.address:
            middle = block.split(begin - block.address)
            if self._ages is not None:
                middle.order = block.order
            self._insert_new(block)
        if middle.size_bytes > end - begin:
            self._insert_new(middle.split(end - begin))
        middle.is_mapped = False
        self._device.release(end - begin)
        middle = self._merge_unmapped(middle)
        if middle.is_whole:
            del self.segments[segment]
            self._device.displace(middle.address, segment.size_bytes)
        else:
            free_blocks.insert_unmapped(middle)

    def _insert_new(self, block: MemoryBlock) -> None:
        """A free block that is new, as its order says."""
        if self._ages is not None:
            block.order = next(self._ages)
        block.segment.free_blocks.insert(block)

    def _find(self, free_blocks: FreeBlocks, size_bytes: int) -> MemoryBlock:
        """The lowest place with that much room, which may be a free block and what is unmapped after it."""
        for unmapped in free_blocks.unmapped:
            before = unmapped.prev
            block = unmapped if before is None or not before.is_free else before
            if _has_room(block, size_bytes):
                return block
        page_bytes = SMALL_SEGMENT_BYTES if free_blocks.pool.is_small else self._large_page_bytes
        range_bytes = round_up(self._range_bytes, page_bytes)
        address = self._device.place(range_bytes)
        segment = Segment(address, range_bytes, free_blocks, page_bytes)
        self.segments[segment] = None
        if self._ages is not None:
            segment.head.order = next(self._ages)
        free_blocks.insert_unmapped(segment.head)
        return segment.head

    def _map(self, block: MemoryBlock, size_bytes: int) -> MemoryBlock | None:
        """Put memory behind the beginning of an unmapped block; returns the free block it is part of then."""
        mapped_bytes = round_up(size_bytes, block.segment.page_bytes)
        if not self._device.reserve(mapped_bytes):
            return None
        free_blocks = block.segment.free_blocks
        free_blocks.remove_unmapped(block)
        if mapped_bytes < block.size_bytes:
            rest = block.split(mapped_bytes)
            if self._ages is not None:
                rest.order = next(self._ages)
            free_blocks.insert_unmapped(rest)
        block.is_mapped = True
        return free_blocks.insert_merged(block, is_by_age=self._ages is not None)

    def _merge_unmapped(self, block: MemoryBlock) -> MemoryBlock:
        """Join a block that lost its memory with what has none beside it."""
        free_blocks = block.segment.free_blocks
        before, after = block.prev, block.next
        if after is not None and not after.is_mapped:
            free_blocks.remove_unmapped(after)
            block.absorb_next()
        if before is not None and not before.is_mapped:
            free_blocks.remove_unmapped(before)
            before.absorb_next()
            if self._ages is not None:
                before.order = block.order
            return before
        return block


def _has_room(block: MemoryBlock | None, size_bytes: int) -> bool:
    room_bytes = 0
    while block is not None and room_bytes < size_bytes and (block.is_free or not block.is_mapped):
        room_bytes += block.size_bytes
        block = block.next
    return room_bytes >= size_bytes
