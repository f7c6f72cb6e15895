from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.errors import EnvironmentUnfitError
from profiler.execute.claims import Claims

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]

HOLDER = """
import sys
from pathlib import Path
from profiler.execute.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.take("job"), flush=True)
sys.stdin.readline()
claims.release("job")
print("released", flush=True)
sys.stdin.readline()
"""

RACER = """
import sys, time
from pathlib import Path
from profiler.execute.claims import Claims
directory, rounds = Path(sys.argv[1]), int(sys.argv[2])
inside = directory.parent / "inside"
num_taken = 0
while num_taken < rounds:
    with Claims(directory) as claims:
        if not claims.take("job"):
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
    process = start(HOLDER, tmp_path / "claims")
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_is_held_by_one_process_until_it_lets_go(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with Claims(tmp_path / "claims") as claims:
        assert not claims.take("job")
        assert claims.take("another")
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "released\n"
        assert claims.take("job")
        assert not claims.take("job"), "not twice either"


def test_the_lock_of_a_killed_process_is_free(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with Claims(tmp_path / "claims") as claims:
        assert not claims.take("job")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert claims.take("job")


def test_nothing_is_left_of_locks(tmp_path: Path) -> None:
    with Claims(tmp_path / "study" / "claims") as claims:
        assert claims.take("one")
        assert claims.take("two")
        claims.release("one")
        assert [path.name for path in (tmp_path / "study" / "claims").iterdir()] == ["two.lock"]
    assert list((tmp_path / "study").iterdir()) == []


def test_two_claimants_leave_the_directory_to_the_last(tmp_path: Path) -> None:
    with Claims(tmp_path / "claims") as first:
        assert first.take("one")
        with Claims(tmp_path / "claims") as second:
            assert second.take("two")
        assert (tmp_path / "claims").is_dir()
    assert not (tmp_path / "claims").exists()


def test_processes_that_take_remove_and_remake_one_lock_never_hold_it_at_once(tmp_path: Path) -> None:
    racers = [start(RACER, tmp_path / "claims", 150) for _ in range(3)]
    for racer in racers:
        racer.communicate(timeout=60)
    assert [racer.returncode for racer in racers] == [0, 0, 0]


def test_a_directory_that_vanishes_again_and_again_is_made_again(tmp_path: Path) -> None:
    is_over = threading.Event()

    def remove() -> None:
        while not is_over.is_set():
            with suppress(OSError):  # it is not there, or in use
                (tmp_path / "claims").rmdir()
            time.sleep(0.0002)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        claims = Claims(tmp_path / "claims")
        for _ in range(200):
            assert claims.take("job")
            claims.release("job")
    finally:
        is_over.set()
        remover.join()


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnfitError, match=r"cannot write to .*file/claims: not a directory"):
        Claims(tmp_path / "file" / "claims").take("job")


def test_a_link_in_a_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "job.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentUnfitError, match="cannot write to "):
        Claims(tmp_path / "claims").take("job")
    assert not (tmp_path / "elsewhere").exists()
