"""Bytes held over a sequence of allocations and releases, and the most that were held at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import largest, round_up

if TYPE_CHECKING:
    from profiler.formula.breakdown import Quantity

ALLOCATION_BYTES = 512
"""The caching allocator rounds every request up to this (kMinBlockSize, CUDACachingAllocator)."""


def rounded(size: Quantity) -> Quantity:
    """What a tensor of `size` bytes takes in the allocator."""
    return round_up(size, ALLOCATION_BYTES)


class Ledger:
    """Follows what a piece of a training step holds, tensor by tensor.

    A tensor is known by a name for as long as it is held. All figures are relative to what was held when the
    ledger was opened.

    Attributes:
        held_bytes: held now.
        peak_bytes: the most that was held since the ledger was opened, or since `restart_peak`.
    """

    def __init__(self) -> None:
        """Opens an empty ledger."""
        self.held_bytes: Quantity = 0
        self.peak_bytes: Quantity = 0
        self._tensors: dict[str, Quantity] = {}
        self._pinned: set[str] = set()

    def hold(self, name: str, size: Quantity) -> None:
        """A tensor of `size` bytes is allocated."""
        assert name not in self._tensors, f"{name} is held already"
        self._tensors[name] = rounded(size)
        self.held_bytes = self.held_bytes + self._tensors[name]
        self.peak_bytes = largest(self.peak_bytes, self.held_bytes)

    def release(self, *names: str) -> None:
        """Tensors are freed."""
        for name in names:
            size = self._tensors.pop(name)
            if name not in self._pinned:
                self.held_bytes = self.held_bytes - size

    def pin(self, name: str) -> None:
        """A tensor that is held stays in memory when it is freed, for something else holds it too."""
        assert name in self._tensors, f"{name} is not held"
        self._pinned.add(name)

    def __contains__(self, name: str) -> bool:
        """Whether a tensor of this name is held."""
        return name in self._tensors

    def release_if_held(self, *names: str) -> None:
        """Those of some tensors that are held are freed."""
        self.release(*(name for name in names if name in self._tensors))

    def rename(self, old: str, new: str) -> None:
        """A tensor goes on under another name."""
        assert new not in self._tensors, f"{new} is held already"
        self._tensors[new] = self._tensors.pop(old)

    def size(self, name: str) -> Quantity:
        """Bytes of a tensor that is held."""
        return self._tensors[name]

    def replace(self, old: str, new: str, size: Quantity) -> None:
        """A tensor is computed from another, which is then freed."""
        self.hold(new, size)
        self.release(old)

    def pulse(self, *sizes: Quantity) -> None:
        """Tensors are held together for a moment."""
        momentary = self.held_bytes
        for size in sizes:
            momentary = momentary + rounded(size)
        self.peak_bytes = largest(self.peak_bytes, momentary)

    def restart_peak(self) -> None:
        """The peak is what is held now, as at the start of a phase."""
        self.peak_bytes = self.held_bytes
