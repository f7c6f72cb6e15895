from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from profiler.errors import EnvironmentUnfitError
from profiler.process.locks import Locks
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


HOLDER = """
import sys
from pathlib import Path
from profiler.process.locks import Locks
locks = Locks(Path(sys.argv[1]))
print(locks.take("job"), flush=True)
sys.stdin.readline()
locks.release("job")
print("released", flush=True)
sys.stdin.readline()
"""

RACER = """
import sys, time
from pathlib import Path
from profiler.process.locks import Locks
directory, rounds = Path(sys.argv[1]), int(sys.argv[2])
inside = directory.parent / "inside"
num_taken = 0
while num_taken < rounds:
    with Locks(directory) as locks:
        if not locks.take("job"):
            continue
        inside.mkdir()  # fails if another process is between taking and releasing
        inside.rmdir()
        num_taken += 1
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock of `job`."""
    process = start(HOLDER, tmp_path / "locks")
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_is_held_by_one_process_until_it_lets_go(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with Locks(tmp_path / "locks") as locks:
        assert not locks.take("job")
        assert locks.take("another")
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "released\n"
        assert locks.take("job")
        assert not locks.take("job"), "not twice either"


def test_the_lock_of_a_killed_process_is_free(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with Locks(tmp_path / "locks") as locks:
        assert not locks.take("job")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert locks.take("job")


def test_nothing_is_left_of_locks(tmp_path: Path) -> None:
    with Locks(tmp_path / "study" / "locks") as locks:
        assert locks.take("one")
        assert locks.take("two")
        locks.release("one")
        assert [path.name for path in (tmp_path / "study" / "locks").iterdir()] == ["two.lock"]
    assert list((tmp_path / "study").iterdir()) == []


def test_two_holders_leave_the_directory_to_the_last(tmp_path: Path) -> None:
    with Locks(tmp_path / "locks") as first:
        assert first.take("one")
        with Locks(tmp_path / "locks") as second:
            assert second.take("two")
        assert (tmp_path / "locks").is_dir()
    assert not (tmp_path / "locks").exists()


def test_processes_that_take_remove_and_remake_one_lock_never_hold_it_at_once(tmp_path: Path) -> None:
    racers = [start(RACER, tmp_path / "locks", 150) for _ in range(3)]
    for racer in racers:
        racer.communicate(timeout=60)
    assert [racer.returncode for racer in racers] == [0, 0, 0]


def test_a_directory_that_vanishes_again_and_again_is_made_again(tmp_path: Path) -> None:
    is_over = threading.Event()

    def remove() -> None:
        while not is_over.is_set():
            with suppress(OSError):  # it is not there, or in use
                (tmp_path / "locks").rmdir()
            time.sleep(0.0002)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        locks = Locks(tmp_path / "locks")
        for _ in range(200):
            assert locks.take("job")
            locks.release("job")
    finally:
        is_over.set()
        remover.join()


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfitError, match=r"cannot write to .*file/locks: not a directory"):
        Locks(tmp_path / "file" / "locks").take("job")


def test_a_link_in_a_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "job.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentUnfitError, match="cannot write to "):
        Locks(tmp_path / "locks").take("job")
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    directory = tmp_path / "locks"
    directory.mkdir()
    (directory / "left.lock").write_text("1")
    with Locks(directory) as locks:
        assert locks.take("mine")
    assert not directory.exists()


def test_a_private_directory_that_others_may_enter_or_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    for name in ("open", "link"):
        with Locks(tmp_path / name, is_private=True) as locks, pytest.raises(EnvironmentUnfitError) as caught:
            locks.take("card")
        assert "is not a directory of yours alone" in caught.value.message
    with Locks(tmp_path / "own", is_private=True) as locks:
        assert locks.take("card")
