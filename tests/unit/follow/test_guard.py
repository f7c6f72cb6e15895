from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from profiler.follow.guard import Guard
from profiler.follow.processes import VARIABLE, find_processes
from tests.builders import ROOT

FOLLOWING = f"""
import os, subprocess, sys
from pathlib import Path
from profiler.follow.guard import Guard
directory = Path(sys.argv[1])
with Guard(directory):
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    subprocess.Popen(sleeping, env={{**os.environ, {VARIABLE!r}: str(directory)}}, stdout=subprocess.DEVNULL)
    print(flush=True)
    input()
"""


def start_following(directory: Path) -> subprocess.Popen[bytes]:
    directory.mkdir()
    following = subprocess.Popen(
        [sys.executable, "-c", FOLLOWING, str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert following.stdout is not None
    following.stdout.readline()
    return following


def test_a_command_and_the_files_of_its_run_go_with_a_run_that_is_killed(tmp_path: Path) -> None:
    following = start_following(tmp_path / "run")
    assert len(find_processes(tmp_path / "run")) == 1
    following.kill()
    following.communicate()
    deadline_s = time.monotonic() + 30
    while (tmp_path / "run").exists():
        assert time.monotonic() < deadline_s, "in vain"
        time.sleep(0.02)
    assert find_processes(tmp_path / "run") == []


def test_where_a_run_ends_itself_its_guard_is_gone_and_has_touched_nothing(tmp_path: Path) -> None:
    with Guard(tmp_path):
        guards = children_that_guard(tmp_path)
        assert len(guards) == 1
    assert children_that_guard(tmp_path) == []
    assert tmp_path.is_dir()


def children_that_guard(directory: Path) -> list[bytes]:
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            commands.append((process / "cmdline").read_bytes())
    wanted = (b"profiler.follow.guard", bytes(directory))
    return [command for command in commands if all(word in command for word in wanted)]
