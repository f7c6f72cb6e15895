"""The CUDA caching allocator's own figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import NamedTuple

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


class LiveBlock(NamedTuple):
    """A block in use.

    Attributes:
        size_bytes: as the allocator counts it; what is left of a free block may be too little to split off.
        requested_bytes: what was asked for.
    """

    size_bytes: int
    requested_bytes: int


def live_blocks() -> dict[int, LiveBlock]:
    """Every block in use, by its address."""
    # What a history has recorded would be converted as well, at the cost of a phase.
    options = {"include_traces": False} if _can_leave_out_traces() else {}
    return {
        block["address"]: LiveBlock(block["size"], block["requested_size"])
        for segment in torch.cuda.memory_snapshot(**options)
        for block in segment["blocks"]
        if block["state"] == "active_allocated"
    }


@cache
def _can_leave_out_traces() -> bool:
    return "include_traces" in signature(torch.cuda.memory_snapshot).parameters
