"""What memory is cut into: segments, which the driver gave, and the blocks that each is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.allocator.free_blocks import FreeBlocks


class Block:
    """A part of a segment: in use, free, or (of an expandable segment) not mapped. torch's `struct Block`.

    Attributes:
        size_bytes: as the allocator counts it.
        address: where it begins.
        segment: what it is a part of.
        prev: the block before it in the segment, or None.
        next: the block after it, or None.
        requested_bytes: what was asked for, while it is in use.
        is_free: whether it is among the free blocks of its stream.
        is_mapped: whether there is memory behind it.
        streams: others that use it, besides the one it was allocated on; None where there are none.
        birth: how often its pool had been searched when the block became free, for the collection of garbage.
    """

    __slots__ = (
        "address",
        "birth",
        "is_free",
        "is_mapped",
        "next",
        "prev",
        "requested_bytes",
        "segment",
        "size_bytes",
        "streams",
    )

    def __init__(
        self, segment: Segment, address: int, size_bytes: int, prev: Block | None, following: Block | None
    ) -> None:
        """A block between two others, which are told of it."""
        self.segment = segment
        self.address = address
        self.size_bytes = size_bytes
        self.prev = prev
        self.next = following
        self.is_free = False
        self.is_mapped = True
        self.streams: set[int] | None = None
        if prev is not None:
            prev.next = self
        if following is not None:
            following.prev = self

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its segment; torch asks the opposite, `is_split`."""
        return self.prev is None and self.next is None

    def split(self, size_bytes: int) -> Block:
        """Keep so many bytes of it; returns the rest, a block of its own."""
        rest = Block(self.segment, self.address + size_bytes, self.size_bytes - size_bytes, self, self.next)
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
        self.head = Block(self, address, size_bytes, None, None)

    def blocks(self) -> Iterator[Block]:
        """Its blocks, by address."""
        block: Block | None = self.head
        while block is not None:
            yield block
            block = block.next
