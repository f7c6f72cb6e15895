from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from profiler.allocator.replay import replay
from profiler.allocator.snapshots import read_recorded
from profiler.allocator.traces import to_events
from profiler.errors import ConfigError
from profiler.records.history import EventKind, append_phase, pack_history
from profiler.units import MIB
from tests.unit.allocator.snapshots import GROWING, a_segment, a_snapshot, an_entry, write_snapshot
from tests.unit.explain.traces import a_trained_trace
from tests.unit.verify.histories import a_small_history

if TYPE_CHECKING:
    from pathlib import Path


def test_a_snapshot_is_read_with_the_device_that_most_happened_on(tmp_path: Path) -> None:
    file = read_recorded(write_snapshot(tmp_path / "snapshot.pickle"))
    assert [event.kind for event in file.recorded] == [EventKind(one) for one in _kinds(GROWING)]
    assert (file.num_before, file.alloc_conf, file.capacity_bytes) == (0, "", None)


def _kinds(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["action"].replace("free_requested", "free") for entry in entries]


def test_another_device_is_read_where_asked_for(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path / "snapshot.pickle")
    for device in (0, 2):
        with pytest.raises(ConfigError, match=f"no events of device {device}"):
            read_recorded(path, device=device)


class Command:
    """What a pickle runs as it is read by others."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.text,)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(a_snapshot() | {"host_traces": Command(f"touch {witness}")}))
    with pytest.raises(ConfigError, match=r"no snapshot of torch's: it names posix.system"):
        read_recorded(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no snapshot"),
        (b"# Changelog", "no snapshot"),
        (pickle.dumps([1, 2]), "no segments and device_traces"),
        (pickle.dumps({"segments": [], "device_traces": []}), "no events of device 0"),
        (pickle.dumps({"segments": [], "device_traces": [[{"action": "alloc"}]]}), "not as torch writes it"),
        (pickle.dumps({"segments": 5, "device_traces": [[{"action": "oom"}]]}), "not as torch writes it"),
    ],
)
def test_what_is_no_snapshot_is_told_so(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=reason):
        read_recorded(path)


def test_what_was_live_before_the_first_entry_is_asked_for_first(tmp_path: Path) -> None:
    entries = [
        an_entry("free_requested", 2, 3 * MIB),
        an_entry("free_completed", 2, 3 * MIB),
        an_entry("alloc", 2, MIB),
    ]
    segment = a_segment(0, 20 * MIB, (2 * MIB, "active_allocated"), (MIB, "active_allocated"))
    file = read_recorded(write_snapshot(tmp_path / "snapshot.pickle", entries, segment))
    assert file.num_before == 2
    assert [event.size_bytes for event in file.recorded[:2]] == [2 * MIB, 3 * MIB]
    done = replay(to_events(file.recorded))
    assert (done.allocated_peak_bytes, done.allocated_bytes) == (5 * MIB, 3 * MIB)


def test_a_card_that_ran_out_of_memory_tells_what_it_had(tmp_path: Path) -> None:
    entries = [
        an_entry("segment_alloc", 0, 30 * MIB),
        an_entry("alloc", 0, 30 * MIB),
        {"action": "oom", "device_free": 7 * MIB, "size": 40 * MIB, "stream": 0},
        an_entry("segment_alloc", 100, 2 * MIB),
    ]
    segments = a_segment(0, 30 * MIB, (30 * MIB, "active_allocated")), a_segment(100, 2 * MIB)
    file = read_recorded(write_snapshot(tmp_path / "snapshot.pickle", entries, *segments))
    assert file.capacity_bytes == 37 * MIB


def test_our_own_histories_and_traces_are_read(tmp_path: Path) -> None:
    for name, phases in (("history", a_small_history().phases), ("trace", a_trained_trace().phases)):
        path = tmp_path / f"{name}.jsonl"
        for phase in phases:
            append_phase(path, phase)
        file = read_recorded(path)
        assert file.alloc_conf is None
        assert EventKind.ALLOC in {event.kind for event in file.recorded}


def test_a_file_of_lines_without_events_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ConfigError, match="no events"):
        read_recorded(path)


def test_a_packed_file_that_ends_too_early_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl.gz"
    path.write_bytes(pack_history(a_small_history())[:-12])
    with pytest.raises(ConfigError, match="not complete"):
        read_recorded(path)
