from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.process.faults import fault_in_words, machine_fault, note_end, num_kills_for_memory
from tests.builders import ROOT, no_room

if TYPE_CHECKING:
    from pathlib import Path


class SafetensorError(Exception):
    """As safetensors raises it: its module is not needed to tell it."""


def raised_from(cause: BaseException) -> BaseException:
    error = ValueError("the model cannot be loaded")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "x", "/dev/shm/a"), "/dev/shm/a: no space left on device"),
        (OSError(errno.EDQUOT, "x"), "disk quota exceeded"),
        (OSError(errno.EIO, "x"), "input/output error"),
        (OSError(errno.EROFS, "x"), "read-only file system"),
        (OSError(errno.EMFILE, "x"), "too many open files"),
        (MemoryError(), "the host has no memory left"),
        (raised_from(OSError(errno.ENOSPC, "x")), "no space left on device"),
        (RuntimeError("can't start new thread"), "no further thread can be started"),
        (
            SafetensorError('IoError(Os { code: 28, message: "No space left on device" })'),
            "no space left on device",
        ),
        (
            RuntimeError("DefaultCPUAllocator: no memory: Error code 12 (Cannot allocate memory)"),
            "cannot allocate memory",
        ),
    ],
)
def test_a_fault_of_the_machine_is_told(error: BaseException, told: str) -> None:
    fault = machine_fault(error)
    assert fault is not None
    assert fault[0] == told
    assert fault[1]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "model.safetensors"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        ValueError("No space left on device"),
        KeyError("x"),
    ],
)
def test_what_is_the_jobs_own_is_none(error: BaseException) -> None:
    assert machine_fault(error) is None


def test_a_real_limit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    raised: OSError | None = None
    with no_room(10):
        try:
            path.write_bytes(b"x" * 100)
        except OSError as error:
            raised = error
    fault = machine_fault(raised)
    assert fault is not None
    assert fault[0].endswith("file too large")


def test_the_kernels_kills_are_counted_or_not_told() -> None:
    count = num_kills_for_memory()
    assert count is None or count >= 0


def test_a_real_lack_of_memory_is_told() -> None:
    code = (
        "import resource\n"
        "from profiler.process.faults import machine_fault\n"
        f"resource.setrlimit({resource.RLIMIT_AS}, (2**28, 2**28))\n"
        "try:\n    bytearray(2**30)\nexcept BaseException as error:\n    print(machine_fault(error)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "the host has no memory left\n"


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
@pytest.mark.parametrize("is_limited", [True, False])
def test_a_crash_without_a_word_is_the_machines_where_addresses_are_limited(
    number: signal.Signals, *, is_limited: bool, tmp_path: Path
) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40));" if is_limited else ""
    code = f"import os, resource, sys; {limit} sys.stdin.read(); os.kill(os.getpid(), {int(number)})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    stderr = tmp_path / "stderr.txt"
    assert note_end(process.pid, stderr) is None
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert note_end(process.pid, stderr) == -number
    assert process.wait() == -number
    fault = fault_in_words(stderr.read_text()) if is_limited else None
    assert (fault is not None and "address space" in fault[0]) == is_limited == stderr.exists()


def test_commands_that_cannot_be_loaded_are_one_line_and_a_hint() -> None:
    limit = "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))"
    code = f"import resource, profiler.__main__ as m; {limit}; m.main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 3
    assert ended.stderr == (
        "error: peakvram cannot be loaded: too many open files\nhint: raise the limit: ulimit -n\n"
    )
