from __future__ import annotations

import contextlib
import errno
import gzip
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.files import write_chunks
from profiler.records.fingerprint import fingerprint_of
from profiler.records.pack import pack_study
from profiler.records.packed import MAX_LINE_BYTES
from profiler.records.store import RecordStore
from tests.builders import ROOT, a_job, a_record, no_room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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


PAUSED = """
import sys, time
from pathlib import Path
from profiler.records import pack
from profiler.records.store import RecordStore
study, go_on = Path(sys.argv[1]), Path(sys.argv[2])
write = pack.write_chunks
def write_later(path, chunks):
    pieces = list(chunks)  # every record has been read
    print("ready", flush=True)
    while not go_on.exists():
        time.sleep(0.01)
    write(path, pieces)
pack.write_chunks = write_later
pack.pack_study(RecordStore(study), remove=True)
"""


@contextlib.contextmanager
def a_pack_at_work(store: RecordStore, go_on: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that packs the study: it has read every record, and has written none."""
    command = [sys.executable, "-c", PAUSED, str(store.directory), str(go_on)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def test_of_two_that_pack_at_once_the_second_waits_and_nothing_is_lost(
    store: RecordStore, tmp_path: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from profiler.records.pack import pack_study; "
        "from profiler.records.store import RecordStore; "
        "print(pack_study(RecordStore(Path(sys.argv[1])), remove=True).num_records)"
    )
    command = [sys.executable, "-c", script, str(store.directory)]
    with a_pack_at_work(store, tmp_path / "go on") as first:
        store.put(a_record(spec=a_job(seq_len=64)))
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=3)
            (tmp_path / "go on").touch()
            assert second.communicate(timeout=60)[0] == b"4\n"
        assert first.wait(timeout=60) == 0
    assert sorted(record.spec.seq_len for record in records_of(store)) == [64, 512, 1024, 2048]
    assert list(store.records_directory.iterdir()) == []


def test_who_waits_too_long_for_another_that_packs_is_told(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.records.pack._WAIT_S", 0.1)
    with a_pack_at_work(store, tmp_path / "go on") as first:
        with pytest.raises(EnvironmentUnfitError, match="another process is packing"):
            pack_study(store)
        (tmp_path / "go on").touch()
        assert first.wait(timeout=60) == 0
    assert len(records_of(store)) == 3


def test_a_sweep_may_store_while_its_study_is_packed_again_and_again(store: RecordStore) -> None:
    script = f"""
from pathlib import Path
from profiler.records.store import RecordStore
from tests.builders import a_job, a_record
store = RecordStore(Path({str(store.directory)!r}))
for turn in range(2):
    for length in range(1, 41):
        store.put(a_record(spec=a_job(seq_len=length)).model_copy(update={{"notes": (str(turn),)}}))
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as writer:
        while writer.poll() is None:
            pack_study(store, remove=True)
    assert writer.returncode == 0
    assert len(records_of(store)) == 43
    put = [stored for stored in store.scan().records if stored.record.spec.seq_len <= 40]
    assert all(item.record.notes == ("1",) for item in put if item.path != store.pack_path)


KILLED_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
from profiler.records.pack import pack_study
from profiler.records.packed import MAX_LINE_BYTES
from profiler.records.store import RecordStore
from tests.builders import a_job, a_record

def of_length(length):
    return a_record(spec=a_job(seq_len=length))

def make(directory):
    store = RecordStore(directory)
    for length in (1, 2, 3):
        store.put(of_length(length))
    pack_study(store, remove=True)
    for length in (3, 4, 5):  # one of them packed already
        store.put(of_length(length))
    return store

def pack_until(store, step):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = [step]
    def count(event, arguments):
        if event == "open" or (event.startswith(("os.", "fcntl.")) and event != "os.kill"):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sync = os.fsync
    def counted_sync(descriptor):
        count("os.fsync", ())
        sync(descriptor)
    os.fsync = counted_sync
    sys.addaudithook(count)
    pack_study(store, remove=True)
    os._exit(0)

ended = []
for step in range(1000):
    store = make(Path(sys.argv[1]) / str(step))
    ended.append(pack_until(RecordStore(store.directory), step))
    scan = RecordStore(store.directory).scan()
    lengths = sorted(item.record.spec.seq_len for item in scan.records)
    assert (lengths, scan.problems) == ([1, 2, 3, 4, 5], ()), (step, lengths, scan.problems)
    packed = pack_study(RecordStore(store.directory), remove=True)
    assert packed.num_records == 5, step
    left = sorted(path.name for path in store.directory.rglob("*"))
    assert left == ["records", "records.jsonl.gz"], (step, left)
    if ended[-1] == 0:
        break
print(ended.count(-signal.SIGKILL))
"""


def test_a_kill_between_any_two_steps_of_packing_strands_nothing(tmp_path: Path) -> None:
    """Every record is loose or packed or both, which is the same, and the next pack leaves nothing over."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_STEP, tmp_path],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 25


def test_without_locks_records_are_packed_but_none_is_removed(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("profiler.files.fcntl.flock", no_locks)
    assert pack_study(store).num_records == 3
    with pytest.raises(EnvironmentUnfitError, match=r"cannot lock .*: operation not supported"):
        pack_study(store, remove=True)
    store.put(a_record(spec=a_job(seq_len=64)))
    assert len(records_of(store)) == 4


BOMBS = {
    "a line": ([b"[" * (MAX_LINE_BYTES + 9)], "a line of it unpacks to more than 64 MiB"),
    "lines": ([b""] * 5000, "more than 1000 lines of it are no records"),
}


@pytest.mark.parametrize(("lines", "reason"), BOMBS.values(), ids=BOMBS)
def test_a_pack_that_unpacks_to_no_end_is_refused(
    store: RecordStore, lines: list[bytes], reason: str
) -> None:
    store.pack_path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", 1))
    scan = store.scan()
    assert len(scan.records) == 3
    assert [problem.reason for problem in scan.problems] == [reason]
    with pytest.raises(ConfigError, match="packing again would lose that"):
        pack_study(store)


def test_a_pack_larger_than_any_study_is_neither_read_nor_written(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_study(store)
    monkeypatch.setattr("profiler.records.packed.MAX_PACK_BYTES", 1000)
    (problem,) = RecordStore(store.directory).scan().problems
    assert "it unpacks to more than" in problem.reason
    store.pack_path.unlink()
    with pytest.raises(EnvironmentUnfitError, match="too large for one packed file"):
        pack_study(store, remove=True)
    assert len(records_of(store)) == 3
    assert not store.pack_path.exists()


def test_a_pack_of_several_compressed_parts_is_read(store: RecordStore) -> None:
    pack_study(store, remove=True)
    lines = gzip.decompress(store.pack_path.read_bytes()).splitlines(keepends=True)
    store.pack_path.write_bytes(b"".join(map(gzip.compress, lines)))
    assert len(records_of(store)) == 3


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
