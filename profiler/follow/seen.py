"""What is seen of a command from outside: how it ended, what it started, what the card counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.follow.tree import Started


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEnd:
    """How a command ended.

    Attributes:
        pid: of the process that the command was started as.
        exit_code: its own; 128 and the signal's number; 124 at the time limit.
        signal: what killed it, or asked peakvram to end, and was passed on.
        timeout_s: the time limit it was ended at, if it was.
        num_left: processes that outlived it and were ended.
        started: the processes that were seen of it, by their ids.
    """

    pid: int
    exit_code: int
    signal: int | None = None
    timeout_s: float | None = None
    num_left: int = 0
    started: Mapping[int, Started] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What was seen of a card from outside: its peak, and that of each process it tells of, in bytes.

    Attributes:
        used_peak_bytes: of all processes and their contexts together.
        process_peaks: of each process, its context with it; a real card's may be other people's.
        context_bytes: one process's context; 0 where its size is not known.
        num_refusals: allocations that were refused for want of memory; a virtual card counts them.
    """

    used_peak_bytes: int | None = None
    process_peaks: Mapping[int, int] = field(default_factory=dict)
    context_bytes: int = 0
    num_refusals: int = 0
