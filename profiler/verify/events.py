"""Where do the histories of two allocators part?"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING

from profiler.records.history import EventKind, Stack
from profiler.records.schema import OfPhase
from profiler.values import Value

if TYPE_CHECKING:
    from profiler.records.history import Event, History, PhaseEvents

_NUM_BEFORE = 4
_NUM_AFTER = 2


class ShownEvent(Value):
    """An event with all that tells of it; `index` counts from the start of the run."""

    index: int
    kind: EventKind
    size_bytes: int
    number: int | None
    stack: Stack


class FirstDifference(OfPhase):
    """Where two histories part.

    Attributes:
        index: of the event, from the start of the run.
        index_in_phase: of the event, from the start of its phase.
        real: what the real card did; None where its phase was over.
        virtual: what the twin did instead; None where its phase was over.
        before: the last events that both share.
        real_after: how the real card went on, in this phase.
        virtual_after: how the twin went on, in this phase.
    """

    index: int
    index_in_phase: int
    real: ShownEvent | None
    virtual: ShownEvent | None
    before: tuple[ShownEvent, ...]
    real_after: tuple[ShownEvent, ...]
    virtual_after: tuple[ShownEvent, ...]


class UnlikePhase(OfPhase):
    """A phase whose events are not the same, whichever blocks they are of: one more shifts all that follow.

    Attributes:
        is_reordered: both sides did the same in another order.
    """

    num_events_real: int
    num_events_virtual: int
    is_reordered: bool


def compare_histories(
    real: History | None, virtual: History | None
) -> tuple[FirstDifference | None, tuple[UnlikePhase, ...]]:
    """The first event that differs, and every phase that is unlike; phases that a side lacks are left out."""
    if real is None or virtual is None:
        return None, ()
    pairs = [
        _PhasePair(real, virtual, number) for number in range(min(len(real.phases), len(virtual.phases)))
    ]
    pairs = [pair for pair in pairs if pair.is_comparable]
    first = next((found for pair in pairs if (found := pair.first_difference())), None)
    return first, tuple(unlike for pair in pairs if (unlike := pair.unlike()))


class _PhasePair:
    """One phase of two histories."""

    def __init__(self, real: History, virtual: History, number: int) -> None:
        self._histories = (real, virtual)
        self._sides: tuple[PhaseEvents, PhaseEvents] = (real.phases[number], virtual.phases[number])
        # Up to the first difference both have as many events.
        self._offset = sum(len(phase.events) for phase in real.phases[:number])

    @property
    def is_comparable(self) -> bool:
        """Whether both kept this phase, and it is the same one."""
        real, virtual = self._sides
        is_kept = not (real.is_truncated or virtual.is_truncated)
        return is_kept and real.place == virtual.place

    def first_difference(self) -> FirstDifference | None:
        """Where the two part; None where they do not."""
        real, virtual = self._sides
        parts = (i for i, (a, b) in enumerate(zip_longest(real.events, virtual.events)) if _differ(a, b))
        at = next(parts, None)
        if at is None:
            return None
        return FirstDifference(
            **real.place._asdict(),
            index=self._offset + at,
            index_in_phase=at,
            real=next(iter(self._show(0, at, at + 1)), None),
            virtual=next(iter(self._show(1, at, at + 1)), None),
            before=self._show(0, max(0, at - _NUM_BEFORE), at),
            real_after=self._show(0, at + 1, at + 1 + _NUM_AFTER),
            virtual_after=self._show(1, at + 1, at + 1 + _NUM_AFTER),
        )

    def unlike(self) -> UnlikePhase | None:
        """The phase, if its events are not the same in kind, size and order; which blocks' is left aside."""
        real, virtual = ([(event.kind, event.size_bytes) for event in side.events] for side in self._sides)
        if real == virtual:
            return None
        return UnlikePhase(
            **self._sides[0].place._asdict(),
            num_events_real=len(real),
            num_events_virtual=len(virtual),
            is_reordered=Counter(real) == Counter(virtual),
        )

    def _show(self, side: int, start: int, end: int) -> tuple[ShownEvent, ...]:
        events = self._sides[side].events[start:end]
        return tuple(
            ShownEvent(
                index=self._offset + start + number,
                kind=event.kind,
                size_bytes=event.size_bytes,
                number=event.number,
                stack=self._histories[side].stacks[event.stack],
            )
            for number, event in enumerate(events)
        )


def _differ(real: Event | None, virtual: Event | None) -> bool:
    """Whether two events are not the same; where in the code they come from does not count."""
    return real is None or virtual is None or real[:3] != virtual[:3]
