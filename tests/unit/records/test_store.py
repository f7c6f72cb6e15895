from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.records.fingerprint import fingerprint_of
from profiler.records.schema import Record
from profiler.records.store import RecordStore, check_directory, read_record, record_file_name, write_record
from tests.builders import AT, ROOT, a_job, a_record, a_report, an_environment, no_room

if TYPE_CHECKING:
    from pathlib import Path


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    record = a_record()
    path = write_record(tmp_path / "results" / "adhoc", record)
    assert read_record(path) == record
    assert path.name == f"llama-3.1-8b--qlora--rtx-4090--{record.key}--{fingerprint_of(record)}.json"


def test_a_record_without_surroundings_is_named_by_its_key_alone(tmp_path: Path) -> None:
    record = a_record().model_copy(update={"environment": None})
    assert write_record(tmp_path, record).name == f"llama-3.1-8b--qlora--rtx-4090--{record.key}.json"


def test_the_same_job_again_takes_the_place_of_its_record(tmp_path: Path) -> None:
    first, second = a_record(), a_record().model_copy(update={"notes": ("again",)})
    assert write_record(tmp_path, first) == write_record(tmp_path, second)
    assert [read_record(path) for path in tmp_path.iterdir()] == [second]


@given(st.text(min_size=1, max_size=300) | st.from_regex(r"[./~].*", fullmatch=True))
@example(model="~nobody")
@example(model=".")
@example(model="/\0")
def test_any_models_name_makes_a_plain_file_name(model: str) -> None:
    name = record_file_name(a_record(spec=a_job(model=model)))
    assert len(name.encode()) < 200
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert name.count("--") == 4
    assert not name.startswith(".")


def test_a_local_directory_gives_the_file_its_own_name_alone() -> None:
    name = record_file_name(a_record(spec=a_job(model="/somewhere/private/My Model/")))
    assert name.startswith("my-model--qlora--")


def test_without_room_nothing_is_left_behind_and_the_error_says_so(tmp_path: Path) -> None:
    with (
        no_room(1024),
        pytest.raises(EnvironmentUnfitError, match=r"cannot write .*: file too large") as caught,
    ):
        write_record(tmp_path, a_record())
    assert "--out" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_without_room_the_record_there_stays_whole(tmp_path: Path) -> None:
    path = write_record(tmp_path, a_record())
    with no_room(1024), pytest.raises(EnvironmentUnfitError):
        write_record(tmp_path, a_record().model_copy(update={"notes": ("more",)}))
    assert read_record(path) == a_record()
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_no_half_record(tmp_path: Path) -> None:
    """A process that does nothing but write records is killed at many instants."""
    script = f"""
from pathlib import Path
from profiler.records.store import write_record
from tests.builders import a_record
directory, record, length = Path({str(tmp_path)!r}), a_record(), 0
write_record(directory, record)
print("ready", flush=True)
while True:
    length = (length + 7) % 40_000
    write_record(directory, record.model_copy(update={{"notes": ("x" * length,)}}))
"""
    for delay_s in (0.0, 0.003, 0.011, 0.029, 0.053):
        with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(delay_s)
            writer.kill()
        (path,) = tmp_path.glob("*.json")
        assert read_record(path).key == a_record().key


def test_a_record_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = write_record(tmp_path, a_record())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(EnvironmentUnfitError, match="cannot write"):
        write_record(tmp_path / "results", a_record())
    with pytest.raises(ConfigError, match="is not a directory"):
        check_directory(tmp_path / "results" / "adhoc")


def test_looking_at_a_place_makes_nothing(tmp_path: Path) -> None:
    check_directory(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="may not be written to"):
        check_directory(tmp_path / "adhoc")


def corrupted(content: bytes, directory: Path) -> str:
    path = directory / "record.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_record(path)
    assert str(path) in caught.value.message
    return caught.value.message


@given(cut=st.integers(min_value=0, max_value=2000))
def test_a_record_cut_short_anywhere_is_refused(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = a_record().model_dump_json().encode()
    assert "cut short or not JSON" in corrupted(whole[:cut], tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "its top level has no valid value"),
        (b"{}", "schema_version is missing"),
        (b'{"schema_version": 1}', "key is missing"),
        (b'{"schema_version": 2}', "its schema version 2 is newer than 1"),
        (b'{"schema_version": 0}', "there is no way from schema version 0 to 1"),
        (b'{"schema_version": "1"}', "schema_version is no number"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(content: bytes, problem: str, tmp_path: Path) -> None:
    assert problem in corrupted(content, tmp_path)


def test_a_fraction_of_a_byte_is_no_record(tmp_path: Path) -> None:
    content = a_record().model_dump_json().replace('"managed_bytes":0', '"managed_bytes":0.5')
    assert "managed_bytes has no valid value" in corrupted(content.encode(), tmp_path)


def test_a_record_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_record(tmp_path / "none.json")


def test_every_field_of_the_contract_is_in_the_file(tmp_path: Path) -> None:
    stored = json.loads(write_record(tmp_path, a_record()).read_text())
    assert stored["schema_version"] == 1
    assert set(stored) == set(Record.model_fields)
    assert stored["device"]["kind"] == "virtual"
    assert stored["components_at"] == {"phase": "forward", "step": 1}


def of_torch(version: str, **changes: object) -> Record:
    report = a_report(environment=an_environment(torch=version))
    return a_record(report=report).model_copy(update=changes)


def test_a_study_gives_back_what_was_put_in(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "study")
    records = [a_record(spec=a_job(seq_len=length)) for length in (512, 1024)]
    paths = [store.put(record) for record in records]
    scan = store.scan()
    assert {stored.path: stored.record for stored in scan.records} == dict(zip(paths, records, strict=True))
    assert scan.problems == ()
    assert {path.parent for path in paths} == {tmp_path / "study" / "records"}


def test_a_study_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "none")
    assert (store.scan().records, store.scan().problems) == ((), ())
    assert store.find(a_record().key, fingerprint_of(a_record())) is None
    assert list(tmp_path.iterdir()) == []


def test_the_same_job_elsewhere_is_another_attempt(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    old, new = of_torch("2.13.0"), of_torch("2.14.1")
    assert store.put(old) != store.put(new)
    assert len(store.scan().records) == 2
    assert store.find(old.key, fingerprint_of(old)) == old
    assert store.find(new.key, fingerprint_of(new)) == new
    assert store.find(new.key, "000000000000") is None


def test_of_two_records_of_one_job_the_newest_counts(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    new = of_torch("2.14.1", notes=("new",), created_at=AT + timedelta(days=1))
    store.put(new)
    earlier_name = store.records_directory / f"a-name-of-before--{new.key}.json"
    earlier_name.write_text(of_torch("2.14.1").model_dump_json())
    assert [stored.record for stored in store.scan().records] == [new]
    assert store.find(new.key, fingerprint_of(new)) == new


def test_what_is_no_record_is_reported_skipped_and_left_alone(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    path = store.put(a_record())
    foreign = {
        "cut.json": path.read_bytes()[:500],
        "newer.json": b'{"schema_version": 7}',
        "notes.txt": b"mine",
        "binary.json": bytes(range(256)),
        "list.json": b"[1]",
    }
    for name, content in foreign.items():
        (store.records_directory / name).write_bytes(content)
    (store.records_directory / "folder").mkdir()
    (store.records_directory / ".half-1234.tmp").write_bytes(b"{")
    scan = store.scan()
    assert [stored.record for stored in scan.records] == [a_record()]
    assert {problem.path.name: problem.reason for problem in scan.problems} == {
        "cut.json": "it is cut short or not JSON",
        "newer.json": "its schema version 7 is newer than 1, the newest known here",
        "notes.txt": "it is cut short or not JSON",
        "binary.json": "it is not UTF-8 text",
        "list.json": "its top level has no valid value",
        "folder": "it cannot be read: is a directory",
    }
    assert {name: (store.records_directory / name).read_bytes() for name in foreign} == foreign


def test_a_file_in_place_of_the_records_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("")
    with pytest.raises(ConfigError, match=r"cannot read .*records: not a directory"):
        RecordStore(tmp_path).scan()


def test_several_processes_write_one_study_at_once(tmp_path: Path) -> None:
    """Four processes put the same twelve jobs while this one reads: nothing is ever torn."""
    script = f"""
from pathlib import Path
from profiler.records.store import RecordStore
from tests.builders import a_job, a_record
store = RecordStore(Path({str(tmp_path)!r}))
for turn in range(3):
    for length in range(1, 13):
        store.put(a_record(spec=a_job(seq_len=length)))
"""
    writers = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(4)]
    store = RecordStore(tmp_path)
    while any(writer.poll() is None for writer in writers):
        assert store.scan().problems == ()
    assert [writer.returncode for writer in writers] == [0] * 4
    expected = [a_record(spec=a_job(seq_len=length)) for length in range(1, 13)]
    found = [stored.record for stored in store.scan().records]
    assert sorted(found, key=lambda record: record.spec.seq_len) == expected
    assert len(list(store.records_directory.iterdir())) == 12
