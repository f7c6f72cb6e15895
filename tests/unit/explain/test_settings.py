"""Which settings of the allocator would have reserved least."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.explain.settings import BetterSettings, find_better_settings
from profiler.records.schema import PhaseName
from profiler.units import MIB
from tests.builders import a_job, a_record
from tests.unit.explain.traces import TraceMaker

if TYPE_CHECKING:
    from profiler.records.trace import Trace


def a_fragmented_trace() -> Trace:
    """Blocks of 30 MiB, all freed, then one of 240 MiB: each of the others had a segment to itself."""
    made = TraceMaker()
    for number in [made.alloc(30 * MIB) for _ in range(8)]:
        made.free(number)
    made.alloc(240 * MIB)
    made.end(PhaseName.LOAD)
    return made.trace()


def test_segments_that_grow_save_what_small_ones_keep() -> None:
    better = find_better_settings(a_fragmented_trace(), a_record())
    assert better == BetterSettings(alloc_conf="expandable_segments:True", saved_bytes=240 * MIB)


def test_other_settings_of_the_job_are_kept() -> None:
    record = a_record(spec=a_job(alloc_conf="max_split_size_mb:64"))
    better = find_better_settings(a_fragmented_trace(), record)
    assert better is not None
    assert better.alloc_conf == "max_split_size_mb:64,expandable_segments:True"


def test_nothing_is_better_where_nothing_is_wasted() -> None:
    made = TraceMaker()
    made.alloc(30 * MIB)
    made.end(PhaseName.LOAD)
    assert find_better_settings(made.trace(), a_record()) is None


def test_settings_that_are_not_replayed_have_no_better_ones() -> None:
    record = a_record(spec=a_job(alloc_conf="graph_capture_record_stream_reuse:True"))
    assert find_better_settings(a_fragmented_trace(), record) is None
