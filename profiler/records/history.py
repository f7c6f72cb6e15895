"""What the CUDA allocator did over a run, event by event, and the file that says it: one JSON line a phase.

Addresses differ from run to run, so an event names its block or segment by the order in which that was
allocated: two runs that do the same have equal events. Nothing is pickled.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from pydantic import ValidationError

from profiler.records.schema import OfPhase
from profiler.values import Value

if TYPE_CHECKING:
    from pathlib import Path

Phase = TypeVar("Phase", bound=Value)
Stack: TypeAlias = tuple[str, ...]
"""Python lines, the innermost first: `transformers/models/llama/modeling_llama.py:254 forward`."""


class EventKind(StrEnum):
    """What the allocator did; the last five are between it and the driver.

    A free is complete at once, and `free_completed` left out, unless another stream still used the block.
    """

    ALLOC = "alloc"
    FREE = "free"
    FREE_COMPLETED = "free_completed"
    SEGMENT_ALLOC = "segment_alloc"
    SEGMENT_FREE = "segment_free"
    SEGMENT_MAP = "segment_map"
    SEGMENT_UNMAP = "segment_unmap"
    OOM = "oom"


KINDS = {
    "alloc": EventKind.ALLOC,
    "free_requested": EventKind.FREE,
    "free_completed": EventKind.FREE_COMPLETED,
    "segment_alloc": EventKind.SEGMENT_ALLOC,
    "segment_free": EventKind.SEGMENT_FREE,
    "segment_map": EventKind.SEGMENT_MAP,
    "segment_unmap": EventKind.SEGMENT_UNMAP,
    "oom": EventKind.OOM,
}
"""torch's names of what the allocator did."""


class Event(NamedTuple):
    """One event.

    Attributes:
        kind: what happened.
        size_bytes: as a tensor asked for it, before rounding; a segment's own size; a request that failed.
        number: which block or segment, counted from 0 in the order they were allocated in. None where that is
            not known (a part of an expandable segment), and for a request that failed.
        stack: the number of its stack in the run's table.
    """

    kind: EventKind
    size_bytes: int
    number: int | None
    stack: int


class PhaseEvents(OfPhase):
    """One line of the file: what happened from the end of the phase before to the end of this one.

    Attributes:
        events: in order; empty where the history was full, in this phase and all after it.
        new_stacks: the stacks that come up here first; they continue the run's table.
        is_truncated: whether more happened than the history holds.
    """

    events: tuple[Event, ...] = ()
    new_stacks: tuple[Stack, ...] = ()
    is_truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the allocator did over a run.

    Attributes:
        phases: in order. Recording starts once there is a CUDA context, before the first allocation.
        stacks: the table that events refer to.
    """

    phases: tuple[PhaseEvents, ...]
    stacks: tuple[Stack, ...]

    @property
    def num_events(self) -> int:
        """How many events were kept."""
        return sum(len(phase.events) for phase in self.phases)

    @property
    def is_truncated(self) -> bool:
        """Whether more happened than was kept."""
        return any(phase.is_truncated for phase in self.phases)


def append_phase(path: Path, phase: Value) -> None:
    """Add one phase to a file of phases, made if missing; a reader may meet the line half written."""
    with path.open("a", encoding="utf-8") as file:
        file.write(phase.model_dump_json() + "\n")


def read_phases(data: bytes, kind: type[Phase]) -> tuple[Phase, ...]:
    """The phases of a file, a line each. A last line that its writer did not finish is left out."""
    phases: list[Phase] = []
    for line in data.splitlines():
        try:
            phases.append(kind.model_validate_json(line))
        except ValidationError:
            break  # the worker was killed while it wrote
    return tuple(phases)


def read_history(path: Path) -> History:
    """Read a history, packed or not.

    Raises:
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    phases = read_phases(gzip.decompress(data) if path.suffix == ".gz" else data, PhaseEvents)
    return History(phases=phases, stacks=tuple(stack for phase in phases for stack in phase.new_stacks))


def pack_history(history: History) -> bytes:
    """The file of a history, compressed; the same history gives the same bytes."""
    lines = "".join(phase.model_dump_json() + "\n" for phase in history.phases)
    return gzip.compress(lines.encode(), mtime=0)
