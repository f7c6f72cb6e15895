"""Which free block serves a request: the pools, and in each the free blocks of every stream in order.

After `BlockPool`, `get_pool` and `get_free_block` of torch's c10/cuda/CUDACachingAllocator.cpp.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

from profiler.allocator.sizes import MIN_BLOCK_BYTES, SMALL_BYTES

if TYPE_CHECKING:
    from profiler.allocator.blocks import Block
    from profiler.allocator.settings import AllocatorSettings

NO_LIMIT = 2**63
"""Beyond every size, as torch's `std::numeric_limits<size_t>::max()`."""
_SHIFT = 60
"""Blocks are ordered by size, then address. One number says both: addresses lie below 2**60."""
_address_of = attrgetter("address")


class FreeBlocks:
    """The free blocks of one stream in one pool, by size and then address.

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
        self.blocks: list[Block] = []
        self.unmapped: list[Block] = []
        self._keys: list[int] = []
        self._is_plain = pool.is_plain

    def insert(self, block: Block) -> None:
        """A block is free."""
        key = (block.size_bytes << _SHIFT) + block.address
        index = bisect_left(self._keys, key)
        self._keys.insert(index, key)
        self.blocks.insert(index, block)
        block.is_free = True
        if not self._is_plain:
            block.birth = self.pool.num_searches

    def remove(self, block: Block) -> None:
        """A block is not free any more, or about to have another size."""
        index = bisect_left(self._keys, (block.size_bytes << _SHIFT) + block.address)
        del self._keys[index], self.blocks[index]
        block.is_free = False

    def take(self, size_bytes: int) -> Block | None:
        """Take the smallest that is large enough, of several the one at the lowest address."""
        index = bisect_left(self._keys, size_bytes << _SHIFT)
        if not self._is_plain:
            found = self._choose(index, size_bytes)
            if found is None:
                return None
            index = found
        elif index == len(self._keys):
            return None
        del self._keys[index]
        block = self.blocks.pop(index)
        block.is_free = False
        return block

    def index_from(self, size_bytes: int) -> int:
        """The place in `blocks` from which on they have at least that size."""
        return bisect_left(self._keys, size_bytes << _SHIFT)

    def insert_unmapped(self, block: Block) -> None:
        """There is no memory behind a block."""
        self.unmapped.insert(bisect_left(self.unmapped, block.address, key=_address_of), block)
        block.is_mapped = False

    def remove_unmapped(self, block: Block) -> None:
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


def _room_from(block: Block) -> int:
    """What a free block of an expandable segment can grow to without another free block."""
    after = block.next
    return block.size_bytes + (0 if after is None or after.is_mapped else after.size_bytes)


class PoolPair:
    """The two pools that requests go to by their size: the process's own, or a private pool's (`PrivatePool`).

    Attributes:
        small: for requests of up to 1 MiB.
        large: for others.
        use_count: how many use it: captures, graphs, `MemPool` objects.
    """

    __slots__ = ("large", "small", "use_count")

    def __init__(
        self,
        settings: AllocatorSettings,
        *,
        owner: int = 0,
        is_expandable: bool = False,
        is_split: bool = True,
    ) -> None:
        """Empty, in use once; the arguments are `BlockPool`'s."""
        self.small, self.large = (
            BlockPool(settings, is_small=is_small, owner=owner, is_expandable=is_expandable, is_split=is_split)
            for is_small in (True, False)
        )
        self.use_count = 1
