from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.follow.processes import VARIABLE
from profiler.follow.tree import ProcessTree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WANTED = {VARIABLE: "/run", "LD_PRELOAD": "/lib/card.so"}
# Maps a file of the name that a process which would use a card has mapped, and starts a child that does not.
TEXT = """
import mmap, subprocess, sys
file = open(sys.argv[1], "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
child = subprocess.Popen([sys.executable, "-c", "input()", "child"], stdin=subprocess.PIPE, env={})
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


@pytest.mark.parametrize(
    ("variables", "is_blind"),
    [
        (WANTED, False),
        (WANTED | {"LD_PRELOAD": "/lib/card.so /lib/other.so"}, False),
        (WANTED | {"LD_PRELOAD": "/lib/other.so"}, True),
        ({}, True),
        ({VARIABLE: "/run/within/a/run"}, False),
    ],
)
def test_a_process_that_lost_its_environment_is_known_by_what_it_loaded(
    variables: Mapping[str, str], is_blind: bool, tmp_path: Path
) -> None:
    library = tmp_path / "libtorch_cpu.so"
    library.write_bytes(b"\0" * 8)
    environment = {"PATH": os.environ["PATH"], **variables}
    with subprocess.Popen(
        [sys.executable, "-c", TEXT, str(library)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # there is no such library to load before others
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        tree = ProcessTree(process.pid, WANTED)
        tree.look()
        tree.look()
        process.communicate(b"\n")
    assert tree.started.keys() == {process.pid, child}
    assert tree.started[process.pid].is_blind == is_blind
    assert tree.started[child].command[-1] == "child"
    assert not tree.started[child].is_blind  # it would not use a card
