"""The library under a sanitizer: compiled with a program that makes random calls of it (`calls.c`), and run.

    python -m tests.virtual.sanitizing [--calls N] [--seed S]

builds and runs it under each sanitizer, on one thread and on four, and ends with 1 where one reports any.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from profiler.hardware.catalogue import find_gpu
from profiler.virtual.build import SOURCES, write_sources
from profiler.virtual.launch import as_device
from profiler.virtual.state import create_machine

SANITIZERS = ("address", "undefined", "thread")
NUM_THREADS = (1, 4)
CALLS = Path(__file__).with_name("calls.c")
_FLAGS = ("-std=gnu11", "-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-pthread")


def find_compiler(sanitizer: str) -> str | None:
    """A compiler whose programs run under this sanitizer, if there is one."""
    with tempfile.TemporaryDirectory() as scratch:
        source, program = Path(scratch) / "empty.c", Path(scratch) / "empty"
        source.write_text("int main(void) { return 0; }\n")
        for name in ("gcc", "clang"):
            command = [name, f"-fsanitize={sanitizer}", str(source), "-o", str(program)]
            if shutil.which(name) and all(
                subprocess.run(step, capture_output=True, check=False).returncode == 0
                for step in (command, _as_run(sanitizer, [str(program)]))
            ):
                return name
    return None


def build_calls(directory: Path, sanitizer: str, compiler: str) -> Path:
    """The program that makes the calls, with the library in it."""
    program = directory / f"calls-{sanitizer}"
    sources = [str(path) for path in (*write_sources(directory), CALLS)]
    flags = [*_FLAGS, f"-fsanitize={sanitizer}", f"-I{SOURCES}"]
    subprocess.run([compiler, *flags, *sources, "-o", str(program), "-ldl"], check=True)
    return program


def run_calls(
    program: Path, sanitizer: str, *, calls: int, threads: int, seed: int
) -> subprocess.CompletedProcess[str]:
    """What it said and how it ended: 0 where nothing was reported and all memory came back."""
    with tempfile.TemporaryDirectory() as directory:
        machine = create_machine(
            Path(directory), [as_device(find_gpu("h100-80gb"))], library=Path("the program itself")
        )
        command = _as_run(sanitizer, [str(program), str(seed), str(calls), str(threads)])
        environment = {**os.environ, "PEAKVRAM_VGPU": str(machine.state_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _as_run(sanitizer: str, command: list[str]) -> list[str]:
    # Where the kernel spreads addresses widely, older thread sanitizers find no room for their shadow memory.
    spread = shutil.which("setarch") if sanitizer == "thread" else None
    return [spread, "-R", *command] if spread else command


def main() -> int:
    """Run all of them. 0 where none has anything to report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sanitizer", choices=SANITIZERS, action="append")
    options = parser.parse_args()
    failed = False
    for sanitizer in options.sanitizer or SANITIZERS:
        compiler = find_compiler(sanitizer)
        if compiler is None:
            sys.stderr.write(f"{sanitizer}: neither gcc nor clang has it here\n")
            failed = True
            continue
        with tempfile.TemporaryDirectory() as scratch:
            program = build_calls(Path(scratch), sanitizer, compiler)
            for threads in NUM_THREADS:
                done = run_calls(program, sanitizer, calls=options.calls, threads=threads, seed=options.seed)
                failed |= done.returncode != 0
                sys.stdout.write(f"{sanitizer}: exit code {done.returncode}: {done.stdout}")
                sys.stdout.write(done.stderr if done.returncode else "")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
