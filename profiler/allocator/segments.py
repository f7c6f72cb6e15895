"""What an allocator's segments hold, as `torch.cuda.memory_snapshot` shows them."""

from __future__ import annotations

from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.allocator.blocks import MemoryBlock, Segment
    from profiler.allocator.caching_allocator import CachingAllocator


class BlockState(StrEnum):
    """What a block is, in torch's words: given out, freed but waited for by another stream, or free."""

    ALLOCATED = "active_allocated"
    PENDING = "active_pending_free"
    INACTIVE = "inactive"


class BlockView(NamedTuple):
    """A block.

    Attributes:
        size_bytes: as the allocator counts it.
        state: what it is.
    """

    size_bytes: int
    state: BlockState


class SegmentView(NamedTuple):
    """A segment; of an expandable one each stretch that has memory.

    Attributes:
        size_bytes: its size.
        stream: whose it is.
        pool: the private pool it belongs to; 0 for the process's own.
        is_small: whether it serves requests of up to 1 MiB.
        is_expandable: whether it can grow.
        blocks: what it is cut into, by address.
    """

    size_bytes: int
    stream: int
    pool: int
    is_small: bool
    is_expandable: bool
    blocks: tuple[BlockView, ...]

    @property
    def allocated_bytes(self) -> int:
        """What of it is given out."""
        return sum(block.size_bytes for block in self.blocks if block.state is BlockState.ALLOCATED)

    @property
    def free_bytes(self) -> int:
        """What of it is free."""
        return sum(block.size_bytes for block in self.blocks if block.state is BlockState.INACTIVE)


def view_segments(allocator: CachingAllocator) -> Iterator[SegmentView]:
    """The segments as they are, in the order they were made."""
    for segment in allocator.segments():
        for is_mapped, blocks in groupby(segment.blocks(), key=lambda block: block.is_mapped):
            if is_mapped:
                yield _view(segment, list(blocks), allocator)


def _view(segment: Segment, blocks: Sequence[MemoryBlock], allocator: CachingAllocator) -> SegmentView:
    free_blocks = segment.free_blocks
    return SegmentView(
        size_bytes=sum(block.size_bytes for block in blocks),
        stream=free_blocks.stream,
        pool=free_blocks.pool.owner,
        is_small=free_blocks.pool.is_small,
        is_expandable=segment.page_bytes > 0,
        blocks=tuple(BlockView(block.size_bytes, _state(block, allocator)) for block in blocks),
    )


def _state(block: MemoryBlock, allocator: CachingAllocator) -> BlockState:
    if block.is_free:
        return BlockState.INACTIVE
    return BlockState.PENDING if allocator.is_waiting(block) else BlockState.ALLOCATED
