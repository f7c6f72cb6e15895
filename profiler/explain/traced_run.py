"""What was allocated at every instant of an explained run, and which instant is to be explained."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from profiler.records.history import EventKind
from profiler.records.schema import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.records.history import Stack
    from profiler.records.schema import Outcome
    from profiler.records.trace import Mark, PhaseTrace, Trace, TraceEvent


@dataclass(slots=True, kw_only=True)
class TracedBlock:
    """One block, from its allocation to its end; `follow_trace` fills in the end.

    Attributes:
        number: in the order of allocation.
        size_bytes: as the allocator counts it.
        born: the event that made it, counted over the run.
        died: the event that freed it; None where the trace ends before.
        phase: the place of its phase in the trace.
    """

    number: int
    size_bytes: int
    born: int
    died: int | None = None
    phase: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRun:
    """A run, event by event.

    Attributes:
        events: of all phases, in order.
        phase_ends: for each phase of the trace, how many events there were until its end.
        blocks: by their numbers.
        totals: bytes allocated after each event.
        trace: what was replayed.
    """

    events: Sequence[TraceEvent]
    phase_ends: Sequence[int]
    blocks: Mapping[int, TracedBlock]
    totals: Sequence[int]
    trace: Trace

    def phase_at(self, event: int) -> PhaseTrace:
        """The phase that an event belongs to."""
        place = next(place for place, end in enumerate(self.phase_ends) if event < end)
        return self.trace.phases[place]

    def mark_at(self, event: int) -> Mark:
        """Where in the model the event came from."""
        return self.trace.marks[self.events[event].mark]

    def stack_at(self, event: int) -> Stack:
        """The lines behind an event."""
        return self.trace.stacks[self.events[event].stack]

    def live_at(self, event: int) -> list[TracedBlock]:
        """The blocks in use after an event, the oldest first."""
        return [
            block
            for block in self.blocks.values()
            if block.born <= event and (block.died is None or block.died > event)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The instant to explain.

    Attributes:
        event: the one that brought it about.
        allocated_bytes: what was allocated after it.
        requested_bytes: what the request that failed asked for; None where the instant is the run's peak.
    """

    event: int
    allocated_bytes: int
    requested_bytes: int | None


def follow_trace(trace: Trace) -> TracedRun:
    """Follows every block of a run."""
    events = list(chain.from_iterable(phase.events for phase in trace.phases))
    true_sizes = {block.number: block.size_bytes for phase in trace.phases for block in phase.owned}
    blocks: dict[int, TracedBlock] = {}
    changes: list[int] = []
    ends = list(accumulate(len(phase.events) for phase in trace.phases))
    place = 0
    for index, event in enumerate(events):
        while index >= ends[place]:
            place += 1
        change = 0
        if event.kind is EventKind.ALLOC and event.number is not None:
            size_bytes = true_sizes.get(event.number, event.size_bytes)
            blocks[event.number] = TracedBlock(
                number=event.number, size_bytes=size_bytes, born=index, phase=place
            )
            change = size_bytes
        elif event.kind is EventKind.FREE and (block := blocks.get(event.number or 0)) is not None:
            block.died = index
            change = -block.size_bytes
        changes.append(change)
    return TracedRun(
        events=events, phase_ends=ends, blocks=blocks, totals=list(accumulate(changes)), trace=trace
    )


def find_moment(run: TracedRun, outcome: Outcome) -> Moment | None:
    """The peak, or where memory ran out the moment it did; None where nothing was recorded."""
    if not run.events:
        return None
    if outcome.status is OutcomeStatus.OOM:
        return _failure(run, outcome)
    peak = max(range(len(run.events)), key=run.totals.__getitem__)
    return Moment(event=peak, allocated_bytes=run.totals[peak], requested_bytes=None)


def _failure(run: TracedRun, outcome: Outcome) -> Moment:
    # Memory may run out beside the allocator, in the CUDA context or a library: then nothing says so here.
    last = len(run.events) - 1
    event = next((i for i in range(last, -1, -1) if run.events[i].kind is EventKind.OOM), last)
    asked = run.events[event].size_bytes if run.events[event].kind is EventKind.OOM else None
    requested_bytes = asked if outcome.requested_bytes is None else outcome.requested_bytes
    return Moment(event=event, allocated_bytes=run.totals[event], requested_bytes=requested_bytes or 0)
