"""Replaying a run in the library that is compiled with the package, where there is one: in far less time.

It follows the allocator as it is without settings since torch 2.13; all else is left to `profiler.allocator`.
"""

from __future__ import annotations

import ctypes
from array import array
from functools import cache
from typing import TYPE_CHECKING

from profiler.allocator.rules import BlockOrder
from profiler.allocator.settings import AllocatorSettings
from profiler.formula.derived.flat import FlatOutcome
from profiler.virtual.state import library_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.formula.derived.flat import FlatRun

MAX_PARTS = 64
"""Parts of a run that the library tells apart."""
_MOST_BYTES = 1 << 61
"""Of all requests of a run together: the library counts with 64 bits, and rounds up."""


_NO_MEMORY = -2


class _Run(ctypes.Structure):
    """`vgpu_run` of csrc/replay.c."""

    _fields_ = (
        ("steps", ctypes.c_void_p),
        ("ends", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("parts", ctypes.c_char_p),
        ("num_phases", ctypes.c_int32),
        ("num_requests", ctypes.c_int32),
        ("num_parts", ctypes.c_int32),
        ("capacity", ctypes.c_int64),
    )


class _Outcome(ctypes.Structure):
    """`vgpu_outcome` of csrc/replay.c."""

    _fields_ = (
        ("allocated_peak", ctypes.c_int64),
        ("reserved_peak", ctypes.c_int64),
        ("num_retries", ctypes.c_int64),
        ("requested", ctypes.c_int64),
        ("num_phases", ctypes.c_int32),
    )


def can_replay(run: FlatRun, sizes: Sequence[int], settings: AllocatorSettings) -> bool:
    """Whether the library is there, and follows an allocator with these settings and sizes."""
    is_plain = settings == AllocatorSettings(rules=settings.rules)
    is_followed = is_plain and settings.rules.order is BlockOrder.SEGMENT and run.num_parts <= MAX_PARTS
    is_counted = max(sizes, default=0) * max(1, len(run.parts)) < _MOST_BYTES
    return is_followed and is_counted and _library() is not None


def replay_natively(run: FlatRun, sizes: Sequence[int], *, capacity_bytes: int | None) -> FlatOutcome:
    """What the allocator does in a run.

    Raises:
        ValueError: the run frees what is not there.
        MemoryError: this machine has no memory for it.
    """
    library = _library()
    assert library is not None, "`can_replay` has been asked"
    asked = array("q", sizes)
    num_phases = len(run.ends)
    peaks, terms = array("q", bytes(8 * num_phases)), array("q", bytes(8 * num_phases * run.num_parts))
    given = _Run(
        steps=run.steps.buffer_info()[0],
        ends=run.ends.buffer_info()[0],
        sizes=asked.buffer_info()[0],
        parts=run.parts,
        num_phases=num_phases,
        num_requests=len(run.parts),
        num_parts=run.num_parts,
        capacity=-1 if capacity_bytes is None else capacity_bytes,
    )
    outcome = _Outcome()
    answer = library.vgpu_replay(
        ctypes.byref(given), ctypes.byref(outcome), *(part.buffer_info()[0] for part in (peaks, terms))
    )
    if answer == _NO_MEMORY:
        raise MemoryError
    if answer:
        raise ValueError("it frees what is not there")
    num_begun = outcome.num_phases + bool(outcome.requested)
    width = run.num_parts
    return FlatOutcome(
        reserved_peak_bytes=outcome.reserved_peak,
        num_alloc_retries=outcome.num_retries,
        requested_bytes=outcome.requested,
        peaks=tuple(peaks[:num_begun]),
        terms=tuple(tuple(terms[phase * width : (phase + 1) * width]) for phase in range(num_begun)),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled library; None where there is none, as elsewhere than on Linux."""
    path = library_path()
    if not path.is_file():
        return None
    library = ctypes.CDLL(str(path))
    replay = getattr(library, "vgpu_replay", None)  # of a build from before there was any
    if replay is None:
        return None
    replay.argtypes = (ctypes.c_void_p,) * 4
    return library
