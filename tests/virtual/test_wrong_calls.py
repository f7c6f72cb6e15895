"""The library answers wrong calls as a real card does, and stands random ones, forks and crowds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from profiler.units import GIB, TIB
from profiler.virtual.state import Machine, library_path, open_state, process_peaks
from tests.builders import ROOT
from tests.virtual.following import needs_the_library
from tests.virtual.harness import a_machine
from tests.virtual.sanitizing import SANITIZERS, build_calls, find_compiler, run_calls
from tests.virtual.wrong_calls import PROBES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_the_library

PRELUDE = """
import ctypes, os, signal, sys, threading, time
lib = ctypes.CDLL(None)
def allocate(size=1 << 20):
    pointer = ctypes.c_void_p()
    return lib.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)), pointer
"""


def start(machine_directory: Path, source: str, total_bytes: int = 80 * GIB) -> subprocess.Popen[str]:
    """A process that sees a machine of this directory, made if it is not there."""
    if not (machine_directory / "state").exists():
        a_machine(machine_directory, total_bytes=total_bytes)
    machine = Machine(directory=machine_directory, library=library_path())
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + source],
        env=machine.environment(os.environ),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int | str]:
    machine = a_machine(tmp_path_factory.mktemp("wrong"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.virtual.wrong_calls"],
        env=machine.environment(os.environ),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    found: dict[str, int | str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", PROBES)
def test_a_wrong_call_answers_the_error_of_a_real_card(answers: dict[str, int | str], name: str) -> None:
    assert answers[name] == PROBES[name][0]


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_random_calls_leave_a_sanitizer_nothing_to_report(sanitizer: str, tmp_path: Path) -> None:
    compiler = find_compiler(sanitizer)
    if compiler is None:
        pytest.skip(f"neither gcc nor clang has the {sanitizer} sanitizer here")
    program = build_calls(tmp_path, sanitizer, compiler)
    for threads in (1, 4):
        done = run_calls(program, sanitizer, calls=10_000, threads=threads, seed=7)
        assert done.returncode == 0, done.stdout + done.stderr


def test_live_allocations_do_not_slow_each_other_down(tmp_path: Path) -> None:
    source = """
for count in (2_000, 200_000):
    start = time.perf_counter()
    assert all(allocate()[0] == 0 for _ in range(count))
    print((time.perf_counter() - start) / count)
"""
    few, many = map(float, said(start(tmp_path, source, total_bytes=TIB)).split())
    assert many < 5 * few


def test_a_child_forked_while_another_thread_allocates_is_not_stuck(tmp_path: Path) -> None:
    source = """
def allocate_for_ever():
    while True:
        lib.cudaFree(allocate()[1])
threading.Thread(target=allocate_for_ever, daemon=True).start()
time.sleep(0.05)
stuck = 0
for _ in range(50):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(lib.cudaFree(ctypes.c_void_p(1)) != 1)
    stuck += os.waitpid(child, 0)[1] != 0
print(stuck, flush=True)
os._exit(0)
"""
    assert said(start(tmp_path, source)) == "0\n"


def test_more_processes_than_there_were_places_for_all_count(tmp_path: Path) -> None:
    source = """
ready, waiting = os.pipe(), os.pipe()
for _ in range(200):
    if os.fork() == 0:
        assert allocate()[0] == 0
        os.write(ready[1], b".")
        os.read(waiting[0], 1)
        os._exit(0)
told = b""
while len(told) < 200:
    told += os.read(ready[0], 200)
from profiler.virtual.state import open_state
print(open_state(os.environ["PEAKVRAM_VGPU"]).devices[0].held_bytes >> 20)
os.write(waiting[1], b"." * 200)
for _ in range(200):
    os.wait()
"""
    assert said(start(tmp_path, source, total_bytes=TIB)) == "400\n"
    assert said(start(tmp_path, "allocate(); print(1)")) == "1\n"
    state = open_state(tmp_path / "state")
    assert state.devices[0].held_bytes == 2 << 20
    assert len(process_peaks(state)) == 201


def test_a_process_killed_before_it_is_waited_for_gives_its_memory_and_the_lock_back(tmp_path: Path) -> None:
    victim = start(tmp_path, "allocate(1 << 30); print(1, flush=True); time.sleep(600)")
    assert victim.stdout is not None
    assert victim.stdout.readline() == "1\n"
    state = open_state(tmp_path / "state")
    state.lock_owner = victim.pid
    state.devices[0].held_bytes += 77  # as where it died between two figures
    victim.send_signal(signal.SIGKILL)
    ask = """
free, total = ctypes.c_size_t(), ctypes.c_size_t()
print(lib.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)))
"""
    began = time.monotonic()
    assert said(start(tmp_path, ask)) == "0\n"
    assert time.monotonic() - began < 60
    assert state.devices[0].held_bytes == 0
    assert victim.pid in process_peaks(state)
    victim.wait()
