"""The CUDA caching allocator's own figures."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorReading:
    """The allocator at one instant; peaks are since they were last reset."""

    allocated_bytes: int
    allocated_peak_bytes: int
    reserved_bytes: int
    reserved_peak_bytes: int
    num_alloc_retries: int
    num_ooms: int


def read_allocator() -> AllocatorReading:
    """Read the allocator of the current device, after all work on it is done."""
    torch.cuda.synchronize()
    stats = torch.cuda.memory_stats()
    return AllocatorReading(
        allocated_bytes=stats.get("allocated_bytes.all.current", 0),
        allocated_peak_bytes=stats.get("allocated_bytes.all.peak", 0),
        reserved_bytes=stats.get("reserved_bytes.all.current", 0),
        reserved_peak_bytes=stats.get("reserved_bytes.all.peak", 0),
        num_alloc_retries=stats.get("num_alloc_retries", 0),
        num_ooms=stats.get("num_ooms", 0),
    )


def live_blocks() -> dict[int, int]:
    """Size by address of every block in use, as the allocator counts it: it may exceed what was asked for."""
    blocks: dict[int, int] = {}
    for segment in torch.cuda.memory_snapshot():
        for block in segment["blocks"]:
            if block["state"] == "active_allocated":
                blocks[block["address"]] = block["size"]
    return blocks
