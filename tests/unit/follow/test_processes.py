from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from profiler.follow.processes import VARIABLE, end_processes, find_processes, wait_for_processes

if TYPE_CHECKING:
    from pathlib import Path

SLEEP = "import time; print(flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


def start(directory: Path, text: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, VARIABLE: str(directory)}
    process = subprocess.Popen(
        [sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_process_is_found_by_its_environment_alone(tmp_path: Path) -> None:
    with start(tmp_path / "a", SLEEP) as one, start(tmp_path / "b", SLEEP) as other:
        assert find_processes(tmp_path / "a") == [one.pid]
        end_processes(tmp_path / "a", grace_s=5)
        assert one.wait(5) == -15
        assert other.poll() is None
        other.kill()


def test_a_process_that_will_not_end_is_killed(tmp_path: Path) -> None:
    with start(tmp_path, STUBBORN) as process:
        end_processes(tmp_path, grace_s=0.2)
        assert process.wait(5) == -9


def test_waiting_ends_with_the_last_process_or_with_patience(tmp_path: Path) -> None:
    assert wait_for_processes(tmp_path, grace_s=60) == []
    with start(tmp_path, SLEEP) as process:
        began_s = time.monotonic()
        assert wait_for_processes(tmp_path, grace_s=0.2) == [process.pid]
        assert time.monotonic() - began_s < 5
        process.kill()
