from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.files import check_directory, clear_leftovers, locked, write_chunks
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITER = """
import sys, time
from pathlib import Path
from profiler.files import write_chunks
def pieces():
    yield b"half"
    print("ready", flush=True)
    time.sleep(600)
write_chunks(Path(sys.argv[1]), pieces())
"""


@contextlib.contextmanager
def a_writer_at_work(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            yield writer
        finally:
            writer.kill()


def test_what_a_killed_writer_leaves_is_cleared_and_what_one_at_work_has_is_not(tmp_path: Path) -> None:
    (tmp_path / ".of-somebody-else.tmp").write_text("")
    with a_writer_at_work(tmp_path / "result.json") as writer:
        clear_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        check_directory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".of-somebody-else.tmp"]


def test_a_file_that_fails_while_it_is_made_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_chunks(tmp_path / "result.json", pieces())
    assert list(tmp_path.iterdir()) == []


def test_a_writer_whose_file_is_cleared_before_it_is_locked_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one instant in which a file at work looks like a leftover."""
    real = os.fstat
    names: list[Path] = []

    def fstat(descriptor: int) -> os.stat_result:
        if not names:
            names.extend(tmp_path.iterdir())
            names[0].unlink()
        return real(descriptor)

    monkeypatch.setattr("profiler.files.os.fstat", fstat)
    write_chunks(tmp_path / "result.json", [b"whole"])
    assert len(names) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_one_alone_or_several_that_share(tmp_path: Path) -> None:
    shared, alone = locked(tmp_path, is_shared=True), locked(tmp_path, wait_s=0.05)
    with locked(tmp_path, is_shared=True), shared, pytest.raises(TimeoutError), alone:
        pass
    with locked(tmp_path), pytest.raises(TimeoutError), locked(tmp_path, is_shared=True, wait_s=0.05):
        pass
    with locked(tmp_path, wait_s=0):
        assert list(tmp_path.iterdir()) == []
