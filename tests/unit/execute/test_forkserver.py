from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from profiler.execute import forkserver
from profiler.execute.pool import ForkServerDiedError, Pool
from profiler.hardware.catalogue import find_gpu
from profiler.process.faults import FAULT_EXIT_CODE
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

IMPORTING = """
import os, sys, time
from profiler.execute import forkserver

def imports():
    print("importing", file=sys.stderr, flush=True)
    time.sleep(60)

forkserver._import_libraries = imports
forkserver.main(sys.argv[1], parent=os.getppid())
"""


def test_a_signal_while_it_imports_ends_it_and_leaves_its_parents_directories(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTING, str(tmp_path / "room")], cwd=ROOT, stderr=subprocess.PIPE
    ) as server:
        assert server.stderr is not None
        server.stderr.readline()
        server.terminate()
        assert server.wait() == -signal.SIGTERM
    assert (tmp_path / "room").is_dir()


@pytest.mark.parametrize(
    ("error", "exit_code"), [(OSError(errno.ENOSPC, "full"), FAULT_EXIT_CODE), (ValueError("else"), 1)]
)
def test_a_worker_that_finds_no_room_to_begin_ends_as_one_that_the_machine_failed(
    error: Exception, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> NoReturn:
        raise error

    monkeypatch.setattr(forkserver, "_run", fail)
    pidfd, pid = forkserver._start({"directory": "x", "variables": {}})
    os.close(pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == exit_code


def test_one_that_is_ended_while_it_starts_is_told_so_though_its_words_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(_self: Pool) -> bool:
        _self._process.kill()
        (_self._rooms.directory / "stderr.txt").unlink()
        return False

    monkeypatch.setattr(Pool, "_is_ready", die)
    with pytest.raises(ForkServerDiedError, match="SIGKILL ended them"):
        Pool(find_gpu("rtx-4090"))
