"""What a job does at one point of its variables: the events of its allocator, and whose each block is."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from profiler.errors import PeakvramError
from profiler.explain.owners import Part, find_owners
from profiler.explain.traced_run import follow_trace
from profiler.formula.derived.program import Free
from profiler.records.history import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.records.schema import PhaseName, PhaseReading
    from profiler.records.trace import Mark, PhaseTrace, Trace


_REQUEST, _EMPTIED = 0, -1


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


Structure: TypeAlias = tuple[PhaseSteps, ...]
"""What a run does, whatever its sizes."""


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
    structure: Structure
    sizes: tuple[int, ...]
    allocated_bytes: int
    reserved_bytes: int


class Observer:
    """Observes runs of one job; those that do the same share one structure."""

    def __init__(self) -> None:
        """Nothing was observed yet."""
        self._structures: dict[_Outline, Structure] = {}

    def observe(self, point: Point, trace: Trace, readings: Sequence[PhaseReading]) -> Observation:
        """A run as it was traced.

        Raises:
            CannotFollowError: more happens than a trace holds, or blocks are used by several streams.
        """
        if trace.is_truncated:
            raise CannotFollowError(f"at {point} the allocator does more than a trace holds")
        reader = _Reader()
        outline = _Outline(tuple(map(reader.read, trace.phases)), trace.marks)
        return Observation(
            point=point,
            structure=self._structure(outline, trace),
            sizes=tuple(reader.sizes),
            allocated_bytes=max(reading.allocated_peak_bytes for reading in readings),
            reserved_bytes=max(reading.reserved_peak_bytes for reading in readings),
        )

    def _structure(self, outline: _Outline, trace: Trace) -> Structure:
        """What runs of an outline do: whose their blocks are takes most of the time, and is found once."""
        if outline not in self._structures:
            found = tuple(_structure(outline, trace))
            same = (known for known in self._structures.values() if known == found)
            self._structures[outline] = next(same, found)
        return self._structures[outline]


class _PhaseOutline(NamedTuple):
    """What decides what a phase does, and whose its blocks are, without any size.

    Attributes:
        name: the phase.
        step: its step, if it has one.
        steps: of every event `_REQUEST`, `_EMPTIED`, or how many requests before the block was asked for
            that is freed; integers of four bytes.
        marks: of every event the number of its mark; as `steps`.
        owned: blocks that had another owner at the end, or their first: the number, component and name. In
            this order, as where they lie depends on sizes.
        micro_step: the micro batch of its step, where there are several.
    """

    name: PhaseName
    step: int | None
    steps: bytes
    marks: bytes
    owned: tuple[tuple[int, str, str], ...]
    micro_step: int | None


class _Outline(NamedTuple):
    """A run without its sizes: its phases, and the marks that they refer to."""

    phases: tuple[_PhaseOutline, ...]
    marks: tuple[Mark, ...]


class _Reader:
    """Reads phases in order; a row of segments that are given back is one emptied cache.

    Attributes:
        sizes: what each request asked for, in bytes.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._is_giving_back = False

    def read(self, phase: PhaseTrace) -> _PhaseOutline:
        steps, marks = array("i"), array("i")
        for event in phase.events:
            was_giving_back, self._is_giving_back = self._is_giving_back, False
            match event.kind:
                case EventKind.ALLOC:
                    assert event.number == len(self.sizes), "requests are numbered in their order"
                    self.sizes.append(event.requested_bytes)
                    steps.append(_REQUEST)
                case EventKind.FREE if event.number is not None:
                    steps.append(len(self.sizes) - event.number)
                case EventKind.SEGMENT_FREE | EventKind.SEGMENT_UNMAP:
                    self._is_giving_back = True
                    if was_giving_back:
                        continue
                    steps.append(_EMPTIED)
                case EventKind.FREE_COMPLETED | EventKind.OOM:
                    raise CannotFollowError("blocks are used by several streams, or memory ran out")
                case _:
                    continue
            marks.append(event.mark)
        owned = sorted(
            (block.number, block.component, block.name) for block in phase.owned if block.component
        )
        return _PhaseOutline(
            phase.phase, phase.step, steps.tobytes(), marks.tobytes(), tuple(owned), phase.micro_step
        )


def _structure(outline: _Outline, trace: Trace) -> Iterator[PhaseSteps]:
    owners = {
        number: (str(owner.part), owner.name) for number, owner in find_owners(follow_trace(trace)).items()
    }
    asked = map(owners.__getitem__, count())
    for phase in outline.phases:
        steps = array("i", phase.steps)
        events = tuple(_event(step, asked) for step in steps)
        yield PhaseSteps(phase.name, phase.step, events, phase.micro_step)


def _event(step: int, owners: Iterator[tuple[str, str]]) -> Event:
    if step == _REQUEST:
        owner = next(owners)
        return Asked(owner, owner[0] == Part.WORKSPACE)
    return None if step == _EMPTIED else Free(step)
