from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.allocator.alternatives import Alternatives, Capacity, find_alternatives
from profiler.allocator.rules import NEWEST, RELEASES
from profiler.allocator.snapshots import read_recorded
from profiler.errors import ConfigError
from profiler.units import MIB
from tests.unit.allocator.snapshots import GROWING, write_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.allocator.snapshots import RecordedFile

EXPANDABLE = "expandable_segments:True"


@pytest.fixture
def file(tmp_path: Path) -> RecordedFile:
    return read_recorded(write_snapshot(tmp_path / "snapshot.pickle", GROWING))


def reserved(found: Alternatives) -> dict[str, int]:
    return {one.alloc_conf: one.replay.reserved_peak_bytes // MIB for one in found.tried}


def test_each_setting_is_tried_beside_the_recorded_one(file: RecordedFile) -> None:
    found = find_alternatives(file, [EXPANDABLE, ""], rules=NEWEST, card=None)
    assert reserved(found) == {"": 70, EXPANDABLE: 40}
    assert found.recorded.replay.reserved_peak_bytes == 70 * MIB


def test_a_card_has_only_so_much(file: RecordedFile) -> None:
    card = Capacity(name="", total_bytes=60 * MIB, free_bytes=60 * MIB)
    found = find_alternatives(file, [EXPANDABLE], rules=NEWEST, card=card)
    assert [one.replay.num_alloc_retries for one in found.tried] == [1, 0]
    assert all(one.replay.out_of_memory is None for one in found.tried)


def test_where_memory_lies_unused_is_told_of_the_moment_that_most_is_reserved(file: RecordedFile) -> None:
    (large,) = find_alternatives(file, [], rules=NEWEST, card=None).fragments
    assert (large.is_small, large.num_segments, large.reserved_bytes) == (False, 2, 70 * MIB)
    assert (large.free_bytes, large.held_bytes, large.largest_bytes) == (30 * MIB, 0, 30 * MIB)


@pytest.mark.parametrize("conf", ["expandable", "no_such:1", "large_segment_size_mb:32"])
def test_a_setting_that_the_release_does_not_take_is_refused(file: RecordedFile, conf: str) -> None:
    with pytest.raises(ConfigError, match="alloc_conf"):
        find_alternatives(file, [conf], rules=RELEASES[0], card=None)
