"""How large each block of PyTorch's caching allocator is, whose history tells only what was asked for.

A block is what was asked for, rounded up; or a whole free block, where what would be left of that is too
little to be worth splitting off. So the free blocks are followed, as the allocator keeps them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from profiler.jobs.alloc_conf import parse_alloc_conf
from profiler.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

# torch/csrc and c10/cuda/CUDACachingAllocator.cpp: kMinBlockSize, and kSmallSize, which is both the largest
# block of the small pool and the most that is left unsplit in the large one (`should_split`).
_MIN_BLOCK_BYTES = 512
_SMALL_BYTES = MIB


class BlockSizes:
    """Follows segments and blocks by their addresses."""

    def __init__(self, alloc_conf: str = "") -> None:
        """Nothing is allocated yet.

        Args:
            alloc_conf: the allocator's settings, as `PYTORCH_ALLOC_CONF` has them.
        """
        options = parse_alloc_conf(alloc_conf)
        self._is_expandable = options.get("expandable_segments", "").lower() == "true"
        limit = options.get("max_split_size_mb")
        self._max_split_bytes = int(limit) * MIB if limit is not None else None
        self._borders: Counter[int] = Counter()  # of segments: neighbours in memory share one
        self._free_from: dict[int, int] = {}  # the free blocks of large segments: start to end
        self._free_until: dict[int, int] = {}
        self._blocks: dict[int, int] = {}

    def segment_began(self, address: int, size_bytes: int) -> None:
        """The allocator took memory from the driver: one free block."""
        if self._is_expandable:
            return
        self._borders.update((address, address + size_bytes))
        self._add_free(address, address + size_bytes)

    def segment_ended(self, address: int, size_bytes: int) -> None:
        """The allocator gave a segment back."""
        end = self._free_from.pop(address, None)
        if end is not None:
            del self._free_until[end]
            self._borders.subtract((address, address + size_bytes))

    def allocated(self, address: int, asked_bytes: int) -> int:
        """A block was handed out; returns its size."""
        size_bytes = max(-(-asked_bytes // _MIN_BLOCK_BYTES), 1) * _MIN_BLOCK_BYTES
        end = self._free_from.pop(address, None)
        if end is not None:
            del self._free_until[end]
            if self._splits(size_bytes, end - address - size_bytes):
                self._add_free(address + size_bytes, end)
            else:
                size_bytes = end - address
        self._blocks[address] = size_bytes
        return size_bytes

    def is_free(self, address: int) -> None:
        """A block can be used again: it is joined with its free neighbours in the segment."""
        size_bytes = self._blocks.pop(address, None)
        if size_bytes is None or self._is_expandable:
            return
        start, end = address, address + size_bytes
        if not self._borders[end] and end in self._free_from:
            end = self._free_from.pop(end)
            del self._free_until[end]
        if not self._borders[start] and start in self._free_until:
            start = self._free_until.pop(start)
            del self._free_from[start]
        self._add_free(start, end)

    def correct(self, sizes: Mapping[int, int]) -> None:
        """Takes over the true sizes of blocks in use, by address."""
        for address, size_bytes in sizes.items():
            if address in self._blocks:
                self._blocks[address] = size_bytes

    def _splits(self, size_bytes: int, rest_bytes: int) -> bool:
        if rest_bytes <= 0:
            return False
        if size_bytes <= _SMALL_BYTES:
            return True  # the small pool's are all multiples of the smallest block
        is_too_large = self._max_split_bytes is not None and size_bytes >= self._max_split_bytes
        return rest_bytes > _SMALL_BYTES and not is_too_large

    def _add_free(self, start: int, end: int) -> None:
        self._free_from[start] = end
        self._free_until[end] = start
