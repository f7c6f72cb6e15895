from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from profiler.records.fingerprint import fingerprint_of, identity_of
from profiler.records.migrate import parse_record
from profiler.records.naming import record_file_name
from profiler.records.pack import pack_study
from profiler.records.store import RecordStore
from tests.builders import AT, a_job, a_record

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.records.schema import Record

NUM_PACKED, NUM_LOOSE = 200, 20


def of_length(length: int, **changes: object) -> Record:
    return a_record(spec=a_job(seq_len=length)).model_copy(update=changes)


def found(store: RecordStore, record: Record, *, name: str = "") -> Record | None:
    return store.find(record.key, fingerprint_of(record), name=name)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    store = RecordStore(tmp_path)
    for length in range(1, NUM_PACKED + 1):
        store.put(of_length(length))
    pack_study(store, remove=True)
    for length in range(NUM_PACKED + 1, NUM_PACKED + NUM_LOOSE + 1):
        store.put(of_length(length))
    return tmp_path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry a record that is read."""
    calls: list[None] = []

    def parse(text: str | bytes) -> Record:
        calls.append(None)
        return parse_record(text)

    monkeypatch.setattr("profiler.records.index.parse_record", parse)
    return calls


def test_a_study_is_read_once_however_many_jobs_are_looked_up(directory: Path, parsed: list[None]) -> None:
    store = RecordStore(directory)
    assert found(store, of_length(9999)) is None
    assert len(parsed) == NUM_PACKED + NUM_LOOSE
    for length in range(5000, 5100):
        assert found(store, of_length(length)) is None
    assert len(parsed) == NUM_PACKED + NUM_LOOSE
    for length in (1, 77, NUM_PACKED, NUM_PACKED + 1):
        parsed.clear()
        assert found(store, of_length(length)) == of_length(length)
        assert len(parsed) == 1


def test_a_name_spares_the_search_of_the_directory(
    directory: Path, parsed: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other, new = RecordStore(directory), RecordStore(directory), of_length(3000)
    store.problems()
    parsed.clear()

    def no_search(*_: object) -> None:
        raise AssertionError

    for name in ("iterdir", "glob"):
        monkeypatch.setattr(f"pathlib.Path.{name}", no_search)
    assert found(store, new, name=record_file_name(new)) is None
    other.put(new)
    assert found(store, new, name=record_file_name(new)) == new
    assert found(store, of_length(1), name=record_file_name(of_length(1))) == of_length(1)
    assert len(parsed) == 3  # the new one as it is met and as it is asked for, and the other
    newer = of_length(3000, notes=("newer",))
    other.put(newer)
    assert found(store, new, name=record_file_name(new)) == newer


def test_what_another_process_packs_or_removes_is_seen(directory: Path, parsed: list[None]) -> None:
    store, last = RecordStore(directory), of_length(NUM_PACKED + NUM_LOOSE)
    assert found(store, last) == last
    pack_study(RecordStore(directory), remove=True)
    parsed.clear()
    assert found(store, last, name=record_file_name(last)) == last
    assert len(parsed) == NUM_PACKED + NUM_LOOSE + 1
    (directory / "records.jsonl.gz").unlink()
    assert found(store, last) is None
    assert store.scan().records == ()


def test_only_what_has_changed_is_read_again(directory: Path, parsed: list[None]) -> None:
    store = RecordStore(directory)
    assert store.num_records() == NUM_PACKED + NUM_LOOSE
    changed = of_length(NUM_PACKED + 1, notes=("changed",))
    path = RecordStore(directory).put(changed)
    os.utime(path, ns=(0, 0))
    parsed.clear()
    assert store.num_records() == NUM_PACKED + NUM_LOOSE
    assert len(parsed) == 1
    assert found(store, changed) == changed


def test_a_pack_replaced_while_it_is_read_gives_what_it_held(directory: Path) -> None:
    store = RecordStore(directory)
    records = store.read()
    first = next(records).record
    other = RecordStore(directory)
    other.put(of_length(2, notes=("anew",)))
    pack_study(other, remove=True)
    assert found(store, first) == first
    lengths = sorted(stored.record.spec.seq_len for stored in records)
    assert lengths == sorted({*range(1, NUM_PACKED + NUM_LOOSE + 1)} - {first.spec.seq_len})


def test_some_jobs_are_read_without_the_others(directory: Path, parsed: list[None]) -> None:
    store = RecordStore(directory)
    store.problems()
    parsed.clear()
    wanted = {identity_of(of_length(length)) for length in (3, 150, 9999)}
    assert sorted(item.record.spec.seq_len for item in store.read(wanted)) == [3, 150]
    assert len(parsed) == 2


def test_a_packed_record_newer_than_the_loose_one_counts(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.put(of_length(1, created_at=AT.replace(year=2030)))
    pack_study(store, remove=True)
    store.put(of_length(1))
    (stored,) = store.scan().records
    assert stored.path == store.pack_path
    assert stored.record.created_at.year == 2030
