"""How long one Python process takes from a cold start, and what host memory it and its children hold."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import PeakvramError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SAMPLE_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What a finished process took.

    Attributes:
        elapsed_s: from its start to its end.
        process_bytes: the peak of resident memory of the largest of its processes, as the kernel keeps it.
        tree_bytes: the most that all its processes held at once (the sum of their PSS, sampled), if watched.
        output: what it wrote, to stdout and stderr.
    """

    elapsed_s: float
    process_bytes: int
    tree_bytes: int
    output: str


def time_python(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    is_tree_watched: bool = False,
    codes: Collection[int] = (0,),
) -> Timing:
    """Run the interpreter in an empty directory of its own, and wait for it.

    Args:
        arguments: its own.
        environment: the variables it gets; this process's own if None.
        is_tree_watched: whether to sample what it and all that it starts hold.
        codes: the exit codes of one that has done what it should.

    Raises:
        PeakvramError: it failed; the message ends with what it wrote.
    """
    tree_bytes = [0]
    ended = threading.Event()
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, *arguments]
        started_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, env=environment)
        with ThreadPoolExecutor() as watching:
            if is_tree_watched:
                watching.submit(_watch, process.pid, ended, tree_bytes)
            _, status, usage = os.wait4(process.pid, 0)
            elapsed_s = time.perf_counter() - started_s
            ended.set()
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        output = log.read()
    if process.returncode not in codes:
        raise PeakvramError(f"{' '.join(arguments)} failed:\n{output}")
    process_bytes = usage.ru_maxrss * 1024  # KiB on Linux; its children's included
    return Timing(elapsed_s=elapsed_s, process_bytes=process_bytes, tree_bytes=max(tree_bytes), output=output)


def _watch(pid: int, ended: threading.Event, samples: list[int]) -> None:
    while not ended.wait(SAMPLE_S):
        samples.append(sum(map(pss_bytes, tree_of(pid))))


def tree_of(pid: int) -> list[int]:
    """A process and all its descendants; none if it has just ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(process for child in children for process in tree_of(int(child)))]


def pss_bytes(pid: int) -> int:
    """The memory of a process, each shared page divided by those who share it; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
