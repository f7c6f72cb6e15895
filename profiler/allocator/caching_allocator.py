"""PyTorch's CUDA caching allocator: what it does with every request, free and `empty_cache`.

After `DeviceCachingAllocator` of torch's c10/cuda/CUDACachingAllocator.cpp, whose functions are named where
their rules stand. Of memory there are only sizes and places.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from profiler.allocator.blocks import Segment
from profiler.allocator.device_memory import AllocationFailedError, DeviceMemory
from profiler.allocator.expandable import ExpandableSegments
from profiler.allocator.pools import PoolPair
from profiler.allocator.rules import BlockOrder
from profiler.allocator.settings import AllocatorSettings
from profiler.allocator.sizes import SMALL_BYTES, round_request, segment_size
from profiler.units import TIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.allocator.blocks import FreeBlocks, MemoryBlock


class CachingAllocator:
    """The caching allocator of one process on one card.

    Attributes:
        allocated_bytes: of the blocks that are given out.
        allocated_peak_bytes: the most that was.
        requested_bytes: what was asked for by those, and by blocks that wait for a stream.
        num_alloc_retries: how often a request was tried again after all that is cached was given back.
        num_ooms: how often even that did not help.
    """

    def __init__(
        self,
        settings: AllocatorSettings | None = None,
        *,
        capacity_bytes: int | None = None,
        total_bytes: int | None = None,
    ) -> None:
        """Nothing is allocated yet.

        Args:
            settings: torch's defaults if None.
            capacity_bytes: what the card has free for this process's tensors; None for no end.
            total_bytes: what the card has, which a memory fraction and the addresses of an expandable segment
                go by; None for the capacity, or for more than any card has.
        """
        self._settings = settings = settings or AllocatorSettings()
        total_bytes = total_bytes or capacity_bytes or TIB
        fraction = settings.per_process_memory_fraction
        self._device = DeviceMemory(
            capacity_bytes=capacity_bytes,
            allowed_bytes=int(fraction * total_bytes) if fraction < 1 else None,
            reuses_addresses=settings.rules.order is BlockOrder.ADDRESS,
        )
        self._ages = count() if settings.rules.order is BlockOrder.BLOCK else None
        self._expandable = ExpandableSegments(
            self._device,
            total_bytes=total_bytes,
            large_page_bytes=settings.large_segment_bytes,
            ages=self._ages,
        )
        self._segments: dict[Segment, None] = {}
        self._own = PoolPair(settings, is_expandable=settings.expandable_segments)
        self._pools = {0: self._own}
        self._underway: list[int] = []
        self._used_elsewhere: set[MemoryBlock] = set()
        self._waiting: dict[MemoryBlock, None] = {}
        self._waiting_bytes = 0
        self._active_peak_bytes = 0
        self.allocated_bytes = self.allocated_peak_bytes = self.requested_bytes = 0
        self.num_alloc_retries = self.num_ooms = 0

    @property
    def reserved_bytes(self) -> int:
        """What the process has from the card."""
        return self._device.reserved_bytes

    @property
    def reserved_peak_bytes(self) -> int:
        """The most that it had."""
        return self._device.reserved_peak_bytes

    @property
    def active_bytes(self) -> int:
        """Of blocks that are given out, and of freed ones that another stream may still use."""
        return self.allocated_bytes + self._waiting_bytes

    @property
    def active_peak_bytes(self) -> int:
        """The most that was active."""
        return max(self.allocated_peak_bytes, self._active_peak_bytes)

    @property
    def num_segments(self) -> int:
        """How many segments there are; torch does not count expandable ones."""
        return len(self._segments)

    def segments(self) -> Iterator[Segment]:
        """All segments: ordinary ones, then expandable ones, in the order they were made."""
        yield from self._segments
        yield from self._expandable.segments

    def is_waiting(self, block: MemoryBlock) -> bool:
        """Whether a block is freed, but another stream may still use it."""
        return block in self._waiting

    def malloc(self, requested_bytes: int, stream: int = 0, pool: int = 0) -> MemoryBlock:
        """A block for a request (`malloc`, `alloc_found_block`).

        Args:
            requested_bytes: above 0.
            stream: the stream it is for.
            pool: a private pool that has begun; 0 for the process's own.

        Raises:
            AllocationFailedError: there is none.
        """
        divisions = self._settings.roundup_power2_divisions
        size_bytes = round_request(requested_bytes, divisions) if divisions else -(-requested_bytes >> 9) << 9
        pools = self._pools[pool]
        block_pool = pools.small if size_bytes <= SMALL_BYTES else pools.large
        free_blocks = block_pool.streams.get(stream) or block_pool.of(stream)
        block = free_blocks.take(size_bytes)
        if block is None:
            block = self._find_memory(free_blocks, size_bytes, requested_bytes)
        rest_bytes = block.size_bytes - size_bytes
        if rest_bytes >= block_pool.rest_bytes and size_bytes < block_pool.split_below_bytes:
            rest = block.split(size_bytes)
            if self._ages is not None:
                rest.order, block.order = block.order, next(self._ages)
            free_blocks.insert(rest)
        else:
            size_bytes = block.size_bytes
        block.requested_bytes = requested_bytes
        self.requested_bytes += requested_bytes
        self.allocated_bytes += size_bytes
        if self.allocated_bytes > self.allocated_peak_bytes:  # noqa: PLR1730 - max() takes three times as long
            self.allocated_peak_bytes = self.allocated_bytes
        if self._waiting_bytes:
            self._active_peak_bytes = max(self._active_peak_bytes, self.active_bytes)
        return block

    def free(self, block: MemoryBlock) -> bool:
        """A block is freed (`free`); whether at once, or when other streams are done with it."""
        self.allocated_bytes -= block.size_bytes
        if self._used_elsewhere and block in self._used_elsewhere:
            self._used_elsewhere.remove(block)
            self._waiting[block] = None
            self._waiting_bytes += block.size_bytes
            return False
        self._free_block(block)
        return True

    def record_stream(self, block: MemoryBlock, stream: int) -> None:
        """Another stream uses a block (`recordStream`)."""
        if stream != block.segment.free_blocks.stream:
            self._used_elsewhere.add(block)

    def complete_free(self, block: MemoryBlock) -> None:
        """The other streams are done with a freed block; nothing where it is not waiting for them."""
        if block in self._waiting:
            del self._waiting[block]
            self._waiting_bytes -= block.size_bytes
            self._free_block(block)

    def process_events(self) -> None:
        """The other streams are done with all freed blocks, as torch sees at its next request."""
        for block in list(self._waiting):
            self.complete_free(block)

    def begin_pool(self, pool: int, *, is_capture: bool = False) -> None:
        """Requests go to a private pool from now on: one use of it more (`beginAllocateToPool`).

        Args:
            pool: its number, not 0.
            is_capture: whether a graph is captured, during which nothing cached is given back.
        """
        self.use_pool(pool)
        if is_capture or self._settings.rules.pools_keep_cache:
            self._underway.append(pool)

    def end_pool(self, pool: int) -> None:
        """Requests do not go there any more (`endAllocateToPool`); its uses stay as they are."""
        if pool in self._underway:
            self._underway.remove(pool)

    def use_pool(self, pool: int, *, is_split: bool = True) -> None:
        """One use of a private pool more, made if it is new (`createOrIncrefPool`)."""
        found = self._pools.get(pool)
        if found is not None:
            found.use_count += 1
            return
        is_expandable = self._settings.expandable_segments and self._settings.rules.private_pools_expand
        self._pools[pool] = PoolPair(
            self._settings, owner=pool, is_expandable=is_expandable, is_split=is_split
        )

    def release_pool(self, pool: int) -> None:
        """One use of a private pool less (`releasePool`); `empty_cache` gives back what one without has."""
        self._pools[pool].use_count -= 1

    def empty_cache(self, pool: int = 0) -> None:
        """Give back every segment that is wholly free, and whole pages of expandable ones (`emptyCache`).

        Args:
            pool: a private pool that nothing uses, for its segments alone; 0 for all that may be given back.
        """
        if not pool:
            if self._underway:
                self._release_unused_pools()
            else:
                self._release_cached()
            return
        if self._pools[pool].use_count == 0:
            for block in list(self._waiting):
                if block.segment.free_blocks.pool.owner == pool:
                    self.complete_free(block)
            self._release_blocks(self._pools[pool])

    def _free_block(self, block: MemoryBlock) -> None:
        """`free_block`."""
        self.requested_bytes -= block.requested_bytes
        block.segment.free_blocks.insert_merged(block, is_by_age=self._ages is not None)

    def _find_memory(self, free_blocks: FreeBlocks, size_bytes: int, requested_bytes: int) -> MemoryBlock:
        """The middle of `malloc`: what is tried, in order, where no free block serves a request."""
        self._collect_garbage()
        block = self._allocate(free_blocks, size_bytes)
        if block is None and self._release_oversize(free_blocks, size_bytes):
            block = self._allocate(free_blocks, size_bytes)
        if block is None and not self._underway:
            self._release_cached()
            self.num_alloc_retries += 1
            block = self._allocate(free_blocks, size_bytes)
        if block is None:
            self.num_ooms += 1
            raise AllocationFailedError(
                requested_bytes, segment_size(size_bytes, self._settings.large_segment_bytes)
            )
        return block

    def _allocate(self, free_blocks: FreeBlocks, size_bytes: int) -> MemoryBlock | None:
        """A new segment, or more of an expandable one (`alloc_block`)."""
        segment_bytes = segment_size(size_bytes, self._settings.large_segment_bytes)
        if not self._device.is_allowed(segment_bytes):
            return None
        if free_blocks.pool.is_expandable:
            return self._expandable.allocate(free_blocks, size_bytes)
        if not self._device.reserve(segment_bytes):
            return None
        segment = Segment(self._device.place(segment_bytes), segment_bytes, free_blocks)
        self._segments[segment] = None
        if self._ages is not None:
            segment.head.order = next(self._ages)
        return segment.head

    def _release(self, block: MemoryBlock) -> None:
        """Give a segment that is one free block back (`release_block`)."""
        block.segment.free_blocks.remove(block)
        self._device.release(block.size_bytes)
        self._device.displace(block.address, block.size_bytes)
        del self._segments[block.segment]

    def _release_cached(self) -> None:
        """`release_cached_blocks`: all that waits is awaited, and all that may be is given back."""
        self.process_events()
        self._release_blocks(self._own)
        self._release_unused_pools()

    def _release_unused_pools(self) -> None:
        """What private pools have that nothing uses any more (`graph_pools_freeable`)."""
        for pool in self._pools.values():
            if pool.use_count == 0:
                self._release_blocks(pool)

    def _release_blocks(self, pools: PoolPair) -> None:
        """`release_blocks`, of large and small blocks."""
        for pool in (pools.large, pools.small):
            for free_blocks in pool.streams.values():
                blocks = list(free_blocks.blocks)
                for block in blocks:
                    if not block.segment.page_bytes and block.is_whole:
                        self._release(block)
                for block in blocks:
                    if block.segment.page_bytes:
                        self._expandable.release(block)

    def _release_oversize(self, free_blocks: FreeBlocks, size_bytes: int) -> bool:
        """`release_available_cached_blocks`: one oversize block that is large enough, or the largest."""
        limit_bytes = self._settings.max_split_bytes
        if limit_bytes is None:
            return False
        wanted_bytes = max(size_bytes, limit_bytes)
        blocks, index = free_blocks.blocks, free_blocks.index_from(wanted_bytes)
        if index < len(blocks) and not blocks[index].segment.page_bytes:
            self._release(blocks[index])
            return True
        released_bytes = 0
        while index and released_bytes < wanted_bytes and blocks[index - 1].size_bytes >= limit_bytes:
            index -= 1
            if not blocks[index].segment.page_bytes:
                released_bytes += blocks[index].size_bytes
                self._release(blocks[index])
        return released_bytes >= wanted_bytes

    def _collect_garbage(self) -> None:
        """`garbage_collect_cached_blocks`: free segments that were not used for longer than the others."""
        limit_bytes, share = self._device.allowed_bytes, self._settings.garbage_collection_threshold
        if not share or limit_bytes is None:
            return
        wanted_bytes = self._device.reserved_bytes - int(share * limit_bytes)
        large = self._own.large
        blocks = [block for found in large.streams.values() for block in found.blocks if block.is_whole]
        ages = {block: large.num_searches - block.birth for block in blocks}
        is_released = True
        while wanted_bytes > 0 and is_released and ages:
            mean = sum(ages.values()) / len(ages)
            old = [block for block, age in ages.items() if age >= mean and not block.segment.page_bytes]
            is_released = bool(old)
            for block in old:
                wanted_bytes -= block.size_bytes
                del ages[block]
                self._release(block)
