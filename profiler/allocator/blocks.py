"""What memory is cut into: segments, their blocks, and the pools in which a free block waits for a request.

After `Block`, `BlockPool`, `get_pool` and `get_free_block` of torch's c10/cuda/CUDACachingAllocator.cpp.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

from profiler.allocator.sizes import MIN_BLOCK_BYTES, SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.allocator.settings import AllocatorSettings

NO_LIMIT = 2**63
"""Beyond every size, as torch's `std::numeric_limits<size_t>::max()`."""
_SHIFT = 60
"""Blocks are sorted by size, then by their order. One number says both: an order is below 2**60."""
_address_of = attrgetter("address")


class MemoryBlock:
    """A part of a segment: in use, free, or (of an expandable segment) not mapped. torch's `struct Block`.

    Attributes:
        size_bytes: as the allocator counts it.
        address: where it begins.
        segment: what it is a part of.
        prev: the block before it in the segment, or None.
        next: the block after it, or None.
        order: which of free blocks of one size is taken first: the one with the least.
        requested_bytes: what was asked for, while it is in use.
        is_free: whether it is among the free blocks of its stream.
        is_mapped: whether there is memory behind it.
        key: its place among the free blocks, while it is one.
        birth: how often its pool had been searched when the block became free, for the collection of garbage.
    """

    __slots__ = (
        "address",
        "birth",
        "is_free",
        "is_mapped",
        "key",
        "next",
        "order",
        "prev",
        "requested_bytes",
        "segment",
        "size_bytes",
    )
    birth: int
    key: int
    requested_bytes: int

    def __init__(
        self,
        segment: Segment,
        address: int,
        size_bytes: int,
        prev: MemoryBlock | None,
        following: MemoryBlock | None,
    ) -> None:
        """A block between two others, which are told of it."""
        self.segment = segment
        self.address = self.order = address
        self.size_bytes = size_bytes
        self.prev = prev
        self.next = following
        self.is_free = False
        self.is_mapped = True
        if prev is not None:
            prev.next = self
        if following is not None:
            following.prev = self

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its segment; torch asks the opposite, `is_split`."""
        return self.prev is None and self.next is None

    def split(self, size_bytes: int) -> MemoryBlock:
        """Keep so many bytes of it; returns the rest, a block of its own."""
        rest = MemoryBlock(
            self.segment, self.address + size_bytes, self.size_bytes - size_bytes, self, self.next
        )
        rest.is_mapped = self.is_mapped
        self.size_bytes = size_bytes
        return rest

    def absorb_next(self) -> None:
        """Become one with the block after it, which is gone."""
        gone = self.next
        assert gone is not None
        self.size_bytes += gone.size_bytes
        self.next = gone.next
        if gone.next is not None:
            gone.next.prev = self


class Segment:
    """What one cudaMalloc gave, or an address range that memory is mapped into as it is needed.

    Attributes:
        size_bytes: of the addresses; of an expandable segment some of them have memory.
        free_blocks: where its blocks go when they are free.
        page_bytes: what an expandable segment is mapped by; 0 for an ordinary one.
        head: the block at its beginning, which stays the same block.
    """

    __slots__ = ("free_blocks", "head", "page_bytes", "size_bytes")

    def __init__(self, address: int, size_bytes: int, free_blocks: FreeBlocks, page_bytes: int = 0) -> None:
        """One block, neither free nor in use."""
        self.size_bytes = size_bytes
        self.free_blocks = free_blocks
        self.page_bytes = page_bytes
        self.head = MemoryBlock(self, address, size_bytes, None, None)

    def blocks(self) -> Iterator[MemoryBlock]:
        """Its blocks, by address."""
        block: MemoryBlock | None = self.head
        while block is not None:
            yield block
            block = block.next


class FreeBlocks:
    """The free blocks of one stream in one pool, by size and then by order.

    Attributes:
        pool: the pool.
        stream: the stream.
        blocks: them, in order.
        unmapped: what has no memory behind it in the stream's expandable segments, by address.
    """

    __slots__ = ("_is_plain", "_keys", "blocks", "pool", "stream", "unmapped")

    def __init__(self, pool: BlockPool, stream: int) -> None:
        """None yet."""
        self.pool = pool
        self.stream = stream
        self.blocks: list[MemoryBlock] = []
        self.unmapped: list[MemoryBlock] = []
        self._keys: list[int] = []
        self._is_plain = pool.is_plain

    def insert(self, block: MemoryBlock) -> None:
        """A block is free."""
        key = block.key = (block.size_bytes << _SHIFT) + block.order
        keys = self._keys
        index = bisect_left(keys, key)
        keys.insert(index, key)
        self.blocks.insert(index, block)
        block.is_free = True
        if not self._is_plain:
            block.birth = self.pool.num_searches

    def insert_merged(self, block: MemoryBlock, *, is_by_age: bool) -> MemoryBlock:
        """Take a block in, one with its free neighbours (`try_merge_blocks`); returns what it is part of.

        Args:
            block: of this stream and pool.
            is_by_age: whether `order` is an age, which the one merged last gives the whole; else an address.
        """
        if block.next is not None and block.next.is_free:
            self.remove(block.next)
            block.absorb_next()
        before = block.prev
        if before is not None and before.is_free:
            self.remove(before)
            before.absorb_next()
            if is_by_age:
                before.order = block.order
            block = before
        self.insert(block)
        return block

    def remove(self, block: MemoryBlock) -> None:
        """A block is not free any more, or about to have another size."""
        keys = self._keys
        index = bisect_left(keys, block.key)
        del keys[index], self.blocks[index]
        block.is_free = False

    def take(self, size_bytes: int) -> MemoryBlock | None:
        """Take the smallest that is large enough, of several the first in order."""
        keys = self._keys
        index = bisect_left(keys, size_bytes << _SHIFT)
        if not self._is_plain:
            found = self._choose(index, size_bytes)
            if found is None:
                return None
            index = found
        elif index == len(keys):
            return None
        del keys[index]
        block = self.blocks.pop(index)
        block.is_free = False
        return block

    def index_from(self, size_bytes: int) -> int:
        """The place in `blocks` from which on they have at least that size."""
        return bisect_left(self._keys, size_bytes << _SHIFT)

    def insert_unmapped(self, block: MemoryBlock) -> None:
        """There is no memory behind a block."""
        self.unmapped.insert(bisect_left(self.unmapped, block.address, key=_address_of), block)
        block.is_mapped = False

    def remove_unmapped(self, block: MemoryBlock) -> None:
        """A block gets memory, or another size."""
        del self.unmapped[bisect_left(self.unmapped, block.address, key=_address_of)]

    def _choose(self, index: int, size_bytes: int) -> int | None:
        """The place of the block that serves a request, where settings have a say in it."""
        pool, blocks = self.pool, self.blocks
        pool.num_searches += 1
        if index == len(blocks):
            return None
        if blocks[index].segment.page_bytes:
            while index + 1 < len(blocks) and _room_from(blocks[index + 1]) < _room_from(blocks[index]):
                index += 1
        found_bytes = blocks[index].size_bytes
        if size_bytes < pool.max_split_bytes:
            return index if found_bytes < pool.max_split_bytes else None
        return index if found_bytes < size_bytes + pool.max_rounding_bytes else None


class BlockPool:
    """Small or large blocks, of the whole process or of a private pool; each stream has its own in it.

    Attributes:
        is_small: whether for requests of up to 1 MiB.
        owner: the private pool's number; 0 for the process's own.
        is_expandable: whether new segments are expandable.
        rest_bytes: the least that is split off a block (`should_split`).
        split_below_bytes: a request of this size and more gets a whole block.
        max_split_bytes: a block of this size and more is oversize: kept for requests of that kind.
        max_rounding_bytes: how much larger than such a request a block may not be.
        num_searches: how often a block was looked for.
        streams: the free blocks by stream.
    """

    __slots__ = (
        "is_expandable",
        "is_plain",
        "is_small",
        "max_rounding_bytes",
        "max_split_bytes",
        "num_searches",
        "owner",
        "rest_bytes",
        "split_below_bytes",
        "streams",
    )

    def __init__(
        self,
        settings: AllocatorSettings,
        *,
        is_small: bool,
        owner: int = 0,
        is_expandable: bool = False,
        is_split: bool = True,
    ) -> None:
        """Empty.

        Args:
            settings: the allocator's.
            is_small: whether for requests of up to 1 MiB.
            owner: the private pool's number.
            is_expandable: whether new segments are expandable.
            is_split: whether blocks may be split; not in a pool made with `no_split`.
        """
        self.is_small = is_small
        self.owner = owner
        self.is_expandable = is_expandable
        self.max_split_bytes = settings.max_split_bytes or NO_LIMIT
        self.max_rounding_bytes = settings.max_non_split_rounding_bytes or settings.large_segment_bytes
        is_fine = is_small or settings.expandable_segments
        self.rest_bytes = MIN_BLOCK_BYTES if is_fine else SMALL_BYTES + 1
        self.split_below_bytes = NO_LIMIT if is_fine else self.max_split_bytes
        if not is_split:
            self.split_below_bytes = 0
        self.num_searches = 0
        self.is_plain = settings.is_plain
        self.streams: dict[int, FreeBlocks] = {}

    def of(self, stream: int) -> FreeBlocks:
        """The free blocks of a stream."""
        free_blocks = self.streams.get(stream)
        if free_blocks is None:
            free_blocks = self.streams[stream] = FreeBlocks(self, stream)
        return free_blocks


def _room_from(block: MemoryBlock) -> int:
    """What a free block of an expandable segment can grow to without another free block."""
    after = block.next
    return block.size_bytes + (0 if after is None or after.is_mapped else after.size_bytes)
