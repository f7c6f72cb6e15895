"""Which settings of the allocator would have reserved least: a run's own requests, replayed under others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.allocator.alternatives import COMMON_CONFS
from profiler.allocator.replay import replay
from profiler.allocator.rules import NEWEST, rules_of
from profiler.allocator.settings import read_settings
from profiler.allocator.traces import recorded_trace, to_events
from profiler.errors import ConfigError
from profiler.jobs.alloc_conf import format_alloc_conf, parse_alloc_conf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.allocator.events import ReplayEvent
    from profiler.allocator.rules import Rules
    from profiler.records.schema import Record
    from profiler.records.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class BetterSettings:
    """Settings under which the requests of a run reserve less.

    Attributes:
        alloc_conf: all settings of the job, those that stay among them.
        saved_bytes: how much lower the peak of reserved memory is; of a run that ended early, up to there.
    """

    alloc_conf: str
    saved_bytes: int


def find_better_settings(trace: Trace, record: Record) -> BetterSettings | None:
    """Of the settings that people use those under which a run's requests reserve least; None if none does.

    The card is taken to have no end: what is reserved then is what the allocator need never give back.
    """
    torch = record.environment.torch if record.environment else None
    rules = rules_of(torch) if torch else NEWEST
    events = to_events(recorded_trace(trace))
    own_bytes = _reserved_bytes(events, record.spec.alloc_conf, rules)
    if own_bytes is None:
        return None
    own = parse_alloc_conf(record.spec.alloc_conf)
    confs = [format_alloc_conf(own | parse_alloc_conf(conf)) for conf in COMMON_CONFS]
    reserved = {conf: size for conf in confs if (size := _reserved_bytes(events, conf, rules)) is not None}
    best = min(reserved, key=lambda conf: reserved[conf])
    saved_bytes = own_bytes - reserved[best]
    return BetterSettings(alloc_conf=best, saved_bytes=saved_bytes) if saved_bytes > 0 else None


def _reserved_bytes(events: Sequence[ReplayEvent], alloc_conf: str, rules: Rules) -> int | None:
    """The most that is reserved; None where torch does not take the settings, or no replay follows them."""
    try:
        settings = read_settings(alloc_conf, rules)
    except ConfigError:
        return None
    return replay(events, settings=settings).reserved_peak_bytes
