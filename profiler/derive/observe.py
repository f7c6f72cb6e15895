"""What a job does at one point of its variables: the events of its allocator, and whose each block is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from profiler.errors import PeakvramError
from profiler.explain.owners import Part, find_owners
from profiler.explain.traced_run import follow_trace
from profiler.formula.derived.program import Free
from profiler.records.history import EventKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.records.schema import PhaseName, PhaseReading
    from profiler.records.trace import Trace, TraceEvent


class CannotFollowError(PeakvramError):
    """A run does what no derived formula can say."""


class Point(NamedTuple):
    """Values of a job's variables."""

    batch_size: int
    seq_len: int

    @property
    def tokens(self) -> int:
        """Tokens of the batch."""
        return self.batch_size * self.seq_len

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.batch_size} x {self.seq_len}"


class Asked(NamedTuple):
    """A request, whatever its size: whose block it is, and whether that is cuBLAS's workspace."""

    owner: tuple[str, str]
    is_workspace: bool


Event = Asked | Free | None
"""What happens; None for an emptied cache."""


class PhaseSteps(NamedTuple):
    """What happens in one phase."""

    name: PhaseName
    step: int | None
    events: tuple[Event, ...]
    micro_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A run at a point.

    Attributes:
        point: the point.
        structure: what it does, whatever the sizes: runs of one regime have equal ones.
        sizes: what each request asks for, in bytes.
        allocated_bytes: the peak, as the allocator counts it.
        reserved_bytes: the peak of what it reserved.
    """

    point: Point
    structure: tuple[PhaseSteps, ...]
    sizes: tuple[int, ...]
    allocated_bytes: int
    reserved_bytes: int


def observe(point: Point, trace: Trace, readings: Sequence[PhaseReading]) -> Observation:
    """A run as it was traced.

    Raises:
        CannotFollowError: more happens than a trace holds, or blocks are used by several streams.
    """
    if trace.is_truncated:
        raise CannotFollowError(f"at {point} the allocator does more than a trace holds")
    owners = {
        number: (str(owner.part), owner.name) for number, owner in find_owners(follow_trace(trace)).items()
    }
    reader = _Reader(owners)
    structure = tuple(
        PhaseSteps(
            phase.phase,
            phase.step,
            tuple(chain.from_iterable(map(reader.read, phase.events))),
            phase.micro_step,
        )
        for phase in trace.phases
    )
    return Observation(
        point=point,
        structure=structure,
        sizes=tuple(reader.sizes),
        allocated_bytes=max(reading.allocated_peak_bytes for reading in readings),
        reserved_bytes=max(reading.reserved_peak_bytes for reading in readings),
    )


class _Reader:
    """Reads events in order; a row of segments that are given back is one emptied cache."""

    def __init__(self, owners: Mapping[int, tuple[str, str]]) -> None:
        self.sizes: list[int] = []
        self._owners = owners
        self._is_giving_back = False

    def read(self, event: TraceEvent) -> tuple[Event, ...]:
        was_giving_back, self._is_giving_back = self._is_giving_back, False
        match event.kind:
            case EventKind.ALLOC:
                assert event.number == len(self.sizes), "requests are numbered in their order"
                self.sizes.append(event.requested_bytes)
                owner = self._owners[event.number]
                return (Asked(owner, owner[0] == Part.WORKSPACE),)
            case EventKind.FREE if event.number is not None:
                return (Free(len(self.sizes) - event.number),)
            case EventKind.SEGMENT_FREE | EventKind.SEGMENT_UNMAP:
                self._is_giving_back = True
                return () if was_giving_back else (None,)
            case EventKind.FREE_COMPLETED | EventKind.OOM:
                raise CannotFollowError("blocks are used by several streams, or memory ran out")
            case _:
                return ()
