from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.files import write_chunks
from profiler.records.fingerprint import fingerprint_of
from profiler.records.pack import pack_study
from profiler.records.store import RecordStore
from tests.builders import a_job, a_record, no_room

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from profiler.records.schema import Record


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path / "study")
    for length in (512, 1024, 2048):
        store.put(a_record(spec=a_job(seq_len=length)))
    return store


def records_of(store: RecordStore) -> list[Record]:
    scan = store.scan()
    assert scan.problems == ()
    return [stored.record for stored in scan.records]


def test_a_packed_study_reads_the_same(store: RecordStore) -> None:
    before = records_of(store)
    packed = pack_study(store, remove=True)
    assert records_of(store) == before
    assert (packed.num_records, len(packed.removed)) == (3, 3)
    assert packed.num_bytes == store.pack_path.stat().st_size
    assert list(store.records_directory.iterdir()) == []
    for record in before:
        assert store.find(record.key, fingerprint_of(record)) == record


def test_the_loose_files_stay_unless_asked(store: RecordStore) -> None:
    before = sorted(store.records_directory.iterdir())
    assert pack_study(store).removed == ()
    assert sorted(store.records_directory.iterdir()) == before
    assert len(records_of(store)) == 3


def test_packing_again_gives_the_same_bytes(store: RecordStore) -> None:
    pack_study(store)
    first = store.pack_path.read_bytes()
    os.utime(store.pack_path, (0, 0))
    pack_study(store, remove=True)
    pack_study(store)
    assert store.pack_path.read_bytes() == first


def test_records_that_come_later_join_the_pack(store: RecordStore) -> None:
    pack_study(store, remove=True)
    store.put(a_record(spec=a_job(seq_len=64)))
    assert len(records_of(store)) == 4
    assert pack_study(store, remove=True).num_records == 4
    assert sorted(record.spec.seq_len for record in records_of(store)) == [64, 512, 1024, 2048]


def test_what_is_no_record_stays_where_it_is(store: RecordStore) -> None:
    foreign = store.records_directory / "notes.json"
    foreign.write_text("mine")
    packed = pack_study(store, remove=True)
    assert [problem.path for problem in packed.problems] == [foreign]
    assert foreign.read_text() == "mine"


def test_a_record_put_anew_while_packing_is_kept(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another sweep replaces a record after the pack is written: its file stays."""
    changed = a_record(spec=a_job(seq_len=512)).model_copy(update={"notes": ("anew",)})

    def write_and_put(path: Path, chunks: Iterable[bytes]) -> None:
        write_chunks(path, chunks)
        store.put(changed)

    monkeypatch.setattr("profiler.records.pack.write_chunks", write_and_put)
    assert len(pack_study(store, remove=True).removed) == 2
    assert [stored.record for stored in store.scan().records if stored.record.spec.seq_len == 512] == [
        changed
    ]


def test_without_room_nothing_is_lost(store: RecordStore) -> None:
    with no_room(100), pytest.raises(EnvironmentUnfitError, match="cannot write"):
        pack_study(store, remove=True)
    assert len(records_of(store)) == 3
    assert not store.pack_path.exists()


def test_without_a_record_there_is_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no record in"):
        pack_study(RecordStore(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 5, 12, -1])
def test_a_damaged_pack_is_a_problem_and_is_not_overwritten(store: RecordStore, cut: int) -> None:
    pack_study(store)
    damaged = store.pack_path.read_bytes()[:cut] if cut else b"not gzip"
    store.pack_path.write_bytes(damaged)
    scan = store.scan()
    assert len(scan.records) == 3
    (problem,) = scan.problems
    assert (problem.path, problem.reason) == (store.pack_path, "it is cut short or damaged")
    with pytest.raises(ConfigError, match="cut short or damaged"):
        pack_study(store, remove=True)
    assert store.pack_path.read_bytes() == damaged


def test_a_line_that_is_no_record_is_named_and_the_others_are_read(store: RecordStore) -> None:
    pack_study(store, remove=True)
    lines = gzip.decompress(store.pack_path.read_bytes()).splitlines(keepends=True)
    lines[1] = b'{"schema_version": 9}\n'
    store.pack_path.write_bytes(gzip.compress(b"".join(lines)))
    scan = store.scan()
    assert len(scan.records) == 2
    (problem,) = scan.problems
    assert problem.reason == "line 2: its schema version 9 is newer than 1, the newest known here"
    with pytest.raises(ConfigError, match="line 2"):
        pack_study(store)
