"""What a recorded trace would have taken under other settings, and where its memory lies unused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.allocator.replay import Replay, replay
from profiler.allocator.segments import BlockState
from profiler.allocator.settings import read_settings
from profiler.allocator.traces import to_events
from profiler.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.allocator.rules import Rules
    from profiler.allocator.segments import SegmentView
    from profiler.allocator.settings import AllocatorSettings
    from profiler.allocator.snapshots import RecordedFile

COMMON_CONFS = (
    "",
    "expandable_segments:True",
    "max_split_size_mb:128",
    "max_split_size_mb:512",
    "roundup_power2_divisions:8",
)
"""What is tried where nothing is asked for: what people set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The card that is asked about.

    Attributes:
        name: what it is called.
        total_bytes: what it has.
        free_bytes: what of that is free for tensors; the CUDA context takes the rest.
    """

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A trace replayed under one configuration.

    Attributes:
        alloc_conf: the configuration; empty for torch's defaults.
        replay: what came of it.
    """

    alloc_conf: str
    replay: Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragments:
    """What is reserved and not allocated where most is reserved, of small or of large blocks.

    Attributes:
        is_small: whether of requests up to 1 MiB.
        num_segments: how many segments there are.
        reserved_bytes: of all of them.
        free_bytes: what of that is not in use.
        held_bytes: what of that lies in segments that are in use, and so cannot be given back.
        largest_bytes: the largest free block.
    """

    is_small: bool
    num_segments: int
    reserved_bytes: int
    free_bytes: int
    held_bytes: int
    largest_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    """What a trace would have taken.

    Attributes:
        recorded: under the settings that it was recorded under, without end.
        tried: under others, on the card that was asked about.
        fragments: where most is reserved, under the settings that it was recorded under.
    """

    recorded: Alternative
    tried: tuple[Alternative, ...]
    fragments: tuple[Fragments, ...]


def find_alternatives(
    file: RecordedFile, confs: Sequence[str], *, rules: Rules, card: Capacity | None
) -> Alternatives:
    """Replays a trace as it was, and under other settings.

    Raises:
        ConfigError: the release has no such setting, or does not take such a value.
    """
    events = to_events(file.recorded, capacity_bytes=file.capacity_bytes)
    conf = file.alloc_conf or ""
    settings = _read(conf, rules)
    was = replay(events, settings=settings, capacity_bytes=file.capacity_bytes, with_series=True)
    tried = tuple(
        Alternative(
            alloc_conf=other,
            replay=replay(
                events,
                settings=_read(other, rules),
                capacity_bytes=card.free_bytes if card else None,
                total_bytes=card.total_bytes if card else None,
            ),
        )
        for other in dict.fromkeys([conf, *confs])
    )
    peak = max(range(len(was.series)), key=lambda index: was.series[index][1], default=0)
    then = replay(events[: peak + 1], settings=settings, capacity_bytes=file.capacity_bytes)
    return Alternatives(
        recorded=Alternative(alloc_conf=conf, replay=was),
        tried=tried,
        fragments=tuple(_fragments(then.segments)),
    )


def _read(conf: str, rules: Rules) -> AllocatorSettings:
    try:
        return read_settings(conf, rules)
    except ValueError as error:
        raise ConfigError(f"alloc_conf {conf!r}: {error}", hint="write it as key:value,key:value") from None


def _fragments(segments: Sequence[SegmentView]) -> Iterator[Fragments]:
    for is_small in (True, False):
        found = [segment for segment in segments if segment.is_small is is_small]
        free = [
            block.size_bytes
            for segment in found
            for block in segment.blocks
            if block.state is BlockState.INACTIVE
        ]
        if found:
            yield Fragments(
                is_small=is_small,
                num_segments=len(found),
                reserved_bytes=sum(segment.size_bytes for segment in found),
                free_bytes=sum(free),
                held_bytes=sum(segment.free_bytes for segment in found if len(segment.blocks) > 1),
                largest_bytes=max(free, default=0),
            )
