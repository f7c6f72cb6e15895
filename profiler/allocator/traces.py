"""Recorded traces as events to replay: ours, and those of torch's memory snapshots."""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

from profiler.allocator.events import Action, ReplayEvent
from profiler.records.history import KINDS, EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from profiler.records.history import History
    from profiler.records.trace import Trace

_GIVES_BACK = (EventKind.SEGMENT_FREE, EventKind.SEGMENT_UNMAP)
_TAKES = (EventKind.SEGMENT_ALLOC, EventKind.SEGMENT_MAP)
OTHER_STREAM = -1
"""A stream that used a block besides its own: which one no trace says."""


class Recorded(NamedTuple):
    """An event as it was recorded, whoever did.

    Attributes:
        kind: what happened.
        number: the block, in the order of requests; None for one that no request of the trace made.
        size_bytes: what was asked for; of a segment its size.
        stream: the stream, from 0 for the default one in the order they come up.
        pool: the private pool, from 1 in the order they come up; 0 for the process's own.
    """

    kind: EventKind
    number: int | None
    size_bytes: int
    stream: int = 0
    pool: int = 0


def recorded_history(history: History) -> list[Recorded]:
    """The events of a history of ours, which says nothing of streams and pools."""
    events = chain.from_iterable(phase.events for phase in history.phases)
    return [Recorded(event.kind, event.number, event.size_bytes) for event in events]


def recorded_trace(trace: Trace) -> list[Recorded]:
    """The events of an explained run, as `recorded_history`."""
    events = chain.from_iterable(phase.events for phase in trace.phases)
    return [Recorded(event.kind, event.number, event.requested_bytes) for event in events]


def read_device_trace(entries: Iterable[Mapping[str, Any]]) -> list[Recorded]:
    """The entries of one device in `device_traces` of torch's snapshot."""
    streams, pools, numbers = _Numbering(), _Numbering(), count()
    streams.number(0)
    pools.number((0, 0))
    blocks: dict[int, int] = {}
    recorded = []
    for entry in entries:
        kind = KINDS.get(entry["action"])
        if kind is None:
            continue
        address, number = entry.get("addr", 0), None
        if kind is EventKind.ALLOC:
            number = blocks[address] = next(numbers)
        elif kind in (EventKind.FREE, EventKind.FREE_COMPLETED):
            number = blocks.get(address)
        stream, pool = int(entry.get("stream", 0)), tuple(entry.get("pool_id", (0, 0)))
        recorded.append(
            Recorded(kind, number, int(entry["size"]), streams.number(stream), pools.number(pool))
        )
    return recorded


class _Numbering:
    """Numbers for what comes up, in that order."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def to_events(recorded: Sequence[Recorded], *, capacity_bytes: int | None = None) -> tuple[ReplayEvent, ...]:
    """What a program asked of the allocator, from what the allocator was seen to do.

    A trace does not say why segments were given back. Where that made room for a segment that the card had no
    room for, the allocator did it by itself, and does so again if it must; else it is an `empty_cache`.

    Args:
        recorded: from the process's first request on.
        capacity_bytes: what the card had free for the process; None where that is not known, and all that was
            given back counts as an `empty_cache`.
    """
    return tuple(_Reading(recorded, capacity_bytes).events())


class _Reading:
    """One pass over a trace."""

    def __init__(self, recorded: Sequence[Recorded], capacity_bytes: int | None) -> None:
        self._recorded = recorded
        self._capacity_bytes = capacity_bytes
        self._reserved_bytes = 0
        self._pools: set[int] = set()
        self._late = {index for index in range(len(recorded)) if _is_late(recorded, index)}
        self._waiting = {recorded[index].number for index in self._late}

    def events(self) -> Iterator[ReplayEvent]:
        given_back_bytes = 0
        for index, event in enumerate(self._recorded):
            if event.kind in _GIVES_BACK:
                given_back_bytes += event.size_bytes
                continue
            if given_back_bytes:
                if not self._is_retry(event):
                    yield ReplayEvent(Action.EMPTY_CACHE)
                self._reserved_bytes -= given_back_bytes
                given_back_bytes = 0
            if event.kind in _TAKES:
                self._reserved_bytes += event.size_bytes
            yield from self._of_block(index, event)
        if given_back_bytes:
            yield ReplayEvent(Action.EMPTY_CACHE)

    def _is_retry(self, event: Recorded) -> bool:
        """Whether what was given back before an event was given back for it."""
        if event.kind is EventKind.OOM:
            return self._capacity_bytes is not None
        return (
            event.kind in _TAKES
            and self._capacity_bytes is not None
            and self._reserved_bytes + event.size_bytes > self._capacity_bytes
        )

    def _of_block(self, index: int, event: Recorded) -> Iterator[ReplayEvent]:
        number = event.number
        if number is None:
            return
        if event.kind is EventKind.ALLOC:
            if event.pool and event.pool not in self._pools:
                self._pools.add(event.pool)
                yield ReplayEvent(Action.USE_POOL, pool=event.pool)
            yield ReplayEvent(Action.ALLOC, number, event.size_bytes, event.stream, event.pool)
        elif event.kind is EventKind.FREE:
            if number in self._waiting:
                yield ReplayEvent(Action.RECORD_STREAM, number, stream=OTHER_STREAM)
            yield ReplayEvent(Action.FREE, number)
        elif index in self._late:
            yield ReplayEvent(Action.FREE_COMPLETED, number)


def _is_late(recorded: Sequence[Recorded], index: int) -> bool:
    """Whether a free was completed after other events came between."""
    event = recorded[index]
    if event.kind is not EventKind.FREE_COMPLETED:
        return False
    before = recorded[index - 1] if index else None
    return before is None or before.kind is not EventKind.FREE or before.number != event.number
