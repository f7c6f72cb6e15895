"""How memory went over a run, by component: few enough instants to draw, with every extreme kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from profiler.explain.explanation import line_of
from profiler.explain.owners import Part
from profiler.records.history import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from profiler.explain.owners import Owner
    from profiler.explain.traced_run import TracedRun
    from profiler.records.schema import PhasePlace

NUM_BUCKETS = 800
"""About so many stretches a run is cut into: each gives its lowest and its highest instant."""

AROUND = 150
"""So many events before and after the explained one are looked at one by one."""

_PARTS = tuple(Part)
_PLACES = {part: place for place, part in enumerate(_PARTS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """What was allocated after one event.

    Attributes:
        event: which one, counted over the run.
        part_bytes: by component, in the order of `Part`.
        is_alloc: whether memory was allocated then, or else let go.
        size_bytes: how much.
        owner: whose.
        line: the line that did it.
    """

    event: int
    part_bytes: tuple[int, ...]
    is_alloc: bool
    size_bytes: int
    owner: Owner | None
    line: str

    @property
    def total_bytes(self) -> int:
        """All components together."""
        return sum(self.part_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A phase in the course of the events: from `start` up to, not including, `end`."""

    place: PhasePlace
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A run to be drawn, or a part of it.

    Attributes:
        name: of the part.
        start: its first event.
        end: the event after its last.
        instants: in order.
        spans: the phases of the whole run; those without events are left out.
    """

    name: str
    start: int
    end: int
    instants: tuple[TimelinePoint, ...]
    spans: tuple[Span, ...]


@dataclass(slots=True)
class _Extremes:
    """The lowest and the highest instant of a stretch."""

    low: TimelinePoint | None = None
    high: TimelinePoint | None = None
    kept: list[TimelinePoint] = field(default_factory=list)

    def in_order(self) -> Iterator[TimelinePoint]:
        found = {one.event: one for one in (self.low, self.high, *self.kept) if one is not None}
        yield from (found[event] for event in sorted(found))


def make_timelines(
    run: TracedRun, owners: Mapping[int, Owner], *, moment: int, num_buckets: int = NUM_BUCKETS
) -> tuple[Timeline, ...]:
    """A run as a whole, and the step and the events around one event more closely.

    Args:
        run: the run.
        owners: whose each block is.
        moment: the event, which is kept in any case.
        num_buckets: about how many stretches each is cut into.
    """
    spans = tuple(_spans(run))
    own = next(span for span in spans if span.start <= moment < span.end)
    windows = {"the whole run": list(spans)}
    step = own.place.step
    if step is not None:
        windows[f"step {step}"] = [span for span in spans if span.place.step == step]
    windows[f"{AROUND} events before and after"] = list(_clipped(spans, moment - AROUND, moment + AROUND + 1))
    return tuple(
        Timeline(
            name=name,
            start=within[0].start,
            end=within[-1].end,
            instants=tuple(_instants(run, owners, within, moment=moment, num_buckets=num_buckets)),
            spans=spans,
        )
        for name, within in windows.items()
    )


def _instants(
    run: TracedRun, owners: Mapping[int, Owner], spans: Sequence[Span], *, moment: int, num_buckets: int
) -> Iterator[TimelinePoint]:
    """The extremes of every stretch of some phases in a row; none goes beyond its phase."""
    part_bytes = [0] * len(_PARTS)
    for block in run.live_at(spans[0].start - 1):
        part_bytes[_PLACES[owners[block.number].part]] += block.size_bytes
    width = max(1, -(-(spans[-1].end - spans[0].start) // num_buckets))
    for span in spans:
        for start in range(span.start, span.end, width):
            stretch = range(start, min(start + width, span.end))
            yield from _stretch(stretch, run, owners, part_bytes, moment).in_order()


def _clipped(spans: Iterable[Span], start: int, end: int) -> Iterator[Span]:
    """What of some phases lies between two events."""
    for span in spans:
        if span.start < end and span.end > start:
            yield replace(span, start=max(span.start, start), end=min(span.end, end))


def _spans(run: TracedRun) -> Iterator[Span]:
    start = 0
    for phase, end in zip(run.trace.phases, run.phase_ends, strict=True):
        if end > start:
            yield Span(place=phase.place, start=start, end=end)
        start = end


def _stretch(
    stretch: Sequence[int], run: TracedRun, owners: Mapping[int, Owner], part_bytes: list[int], moment: int
) -> _Extremes:
    """Follows the events of a stretch; `part_bytes` goes on with them."""
    found = _Extremes()
    for index in stretch:
        event = run.events[index]
        block = run.blocks.get(event.number) if event.number is not None else None
        if block is not None and event.kind in (EventKind.ALLOC, EventKind.FREE):
            sign = 1 if event.kind is EventKind.ALLOC else -1
            part_bytes[_PLACES[owners[block.number].part]] += sign * block.size_bytes
        elif index != moment:
            continue
        total = run.totals[index]
        is_low = found.low is None or total < found.low.total_bytes
        is_high = found.high is None or total > found.high.total_bytes
        if is_low or is_high or index == moment:
            instant = _instant(index, run, owners, part_bytes)
            found.low = instant if is_low else found.low
            found.high = instant if is_high else found.high
            found.kept += [instant] if index == moment else []
    return found


def _instant(index: int, run: TracedRun, owners: Mapping[int, Owner], part_bytes: list[int]) -> TimelinePoint:
    event = run.events[index]
    return TimelinePoint(
        event=index,
        part_bytes=tuple(part_bytes),
        is_alloc=event.kind is not EventKind.FREE,
        size_bytes=event.size_bytes,
        owner=owners.get(event.number) if event.number is not None else None,
        line=line_of(run.stack_at(index)),
    )
