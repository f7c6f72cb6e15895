"""Snapshots as torch writes them, for tests: events by hand, and the file they are in."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from profiler.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

BASE = 1 << 40


def an_entry(action: str, place: int, size: int, **more: Any) -> dict[str, Any]:
    """An entry at a place of an address space, in MiB."""
    return {"action": action, "addr": BASE + place * MIB, "size": size, "stream": 0, **more}


def a_segment(place: int, size: int, *blocks: tuple[int, str]) -> dict[str, Any]:
    """A segment and its blocks: size and state."""
    return {
        "device": 0,
        "address": BASE + place * MIB,
        "total_size": size,
        "stream": 0,
        "segment_pool_id": (0, 0),
        "blocks": [{"size": size, "requested_size": size, "state": state} for size, state in blocks],
    }


GROWING = [
    an_entry("segment_alloc", 0, 30 * MIB),
    an_entry("alloc", 0, 30 * MIB),
    an_entry("free_requested", 0, 30 * MIB),
    an_entry("free_completed", 0, 30 * MIB),
    an_entry("segment_alloc", 100, 40 * MIB),
    an_entry("alloc", 100, 40 * MIB),
]
"""A request, and a larger one after it was freed: 70 MiB reserved, or 40 with expandable segments."""


def a_snapshot(entries: list[dict[str, Any]] = GROWING, *segments: dict[str, Any]) -> dict[str, Any]:
    """What `_snapshot` returns."""
    return {
        "segments": list(segments),
        "device_traces": [[], entries],
        "allocator_settings": {"PYTORCH_CUDA_ALLOC_CONF": ""},
    }


def write_snapshot(path: Path, entries: list[dict[str, Any]] = GROWING, *segments: dict[str, Any]) -> Path:
    """The file that `_dump_snapshot` writes; the events are those of device 1, the segments' too."""
    moved = [{**segment, "device": 1} for segment in segments]
    path.write_bytes(pickle.dumps(a_snapshot(entries, *moved)))
    return path
