"""What the caching allocator of this process has held so far, whoever resets its peaks meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from profiler.virtual.torch_private import RESET_ANY_PEAKS, RESET_PEAKS, STATISTICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The allocator of the first card, in bytes; peaks are since the process began."""

    allocated_bytes: int = 0
    reserved_bytes: int = 0
    allocated_peak_bytes: int = 0
    reserved_peak_bytes: int = 0
    num_alloc_retries: int = 0
    num_ooms: int = 0


class Allocator:
    """Reads the allocator, and once more before the script begins new peaks of its own."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.latest = Figures()

    def watch_resets(self) -> None:
        """From here on, what a script resets is not lost."""
        for name in (RESET_PEAKS, RESET_ANY_PEAKS):
            if (reset := name.find_if_there()) is not None:
                name.replace(self._reading_before(reset))

    def read(self) -> Figures:
        """The figures now; as they were where CUDA is not up, or a script's own allocator tells nothing."""
        if not torch.cuda.is_initialized() or torch.cuda.memory.get_allocator_backend() == "pluggable":
            return self.latest
        told: Any = STATISTICS.find()(0)
        allocated, reserved = told["allocated_bytes"]["all"], told["reserved_bytes"]["all"]
        self.latest = Figures(
            allocated_bytes=allocated["current"],
            reserved_bytes=reserved["current"],
            allocated_peak_bytes=max(self.latest.allocated_peak_bytes, allocated["peak"]),
            reserved_peak_bytes=max(self.latest.reserved_peak_bytes, reserved["peak"]),
            num_alloc_retries=max(self.latest.num_alloc_retries, told["num_alloc_retries"]),
            num_ooms=max(self.latest.num_ooms, told["num_ooms"]),
        )
        return self.latest

    def _reading_before(self, reset: Any) -> Any:
        def read_then_reset(*device: Any) -> None:
            self.read()
            reset(*device)

        return read_then_reset
