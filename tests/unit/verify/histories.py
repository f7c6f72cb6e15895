"""Small histories for tests: events as `alloc 512`, `free 0`, `segment 2097152`."""

from __future__ import annotations

from profiler.records.history import Event, EventKind, History, PhaseEvents
from profiler.records.schema import PhaseName

STACKS = (("torch/nn/modules/linear.py:134 forward", "model.py:8 forward"), ())


def a_phase(
    name: PhaseName, step: int | None, *events: tuple[str, int, int | None], is_truncated: bool = False
) -> PhaseEvents:
    """A phase whose events have the first stack of `STACKS`; frees have none."""
    return PhaseEvents(
        phase=name,
        step=step,
        events=tuple(
            Event(EventKind(kind), size, number, int(kind == "free")) for kind, size, number in events
        ),
        is_truncated=is_truncated,
    )


def a_history(*phases: PhaseEvents) -> History:
    return History(phases=phases, stacks=STACKS)


def a_small_history(*more: tuple[str, int, int | None], is_truncated: bool = False) -> History:
    """A load of one block, then a forward pass of two of which one stays, and `more` in a backward pass."""
    return a_history(
        a_phase(PhaseName.LOAD, None, ("segment_alloc", 2 << 20, 0), ("alloc", 512, 0)),
        a_phase(PhaseName.FORWARD, 0, ("alloc", 1024, 1), ("alloc", 2048, 2), ("free", 1024, 1)),
        a_phase(PhaseName.BACKWARD, 0, *more, is_truncated=is_truncated),
    )
