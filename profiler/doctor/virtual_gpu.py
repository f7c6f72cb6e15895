"""Whether a virtual card really starts here: a process that allocates on one, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from profiler.doctor.checks import Check, Status
from profiler.errors import EnvironmentUnfitError
from profiler.hardware.catalogue import find_gpu
from profiler.hardware.discovery import DEFAULT_VIRTUAL_GPU
from profiler.virtual.launch import launch_machine

_PROGRAM = """
import os, torch
torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
print(torch.cuda.get_device_name(), torch.cuda.memory_reserved() >> 20, "MiB reserved", flush=True)
os._exit(0)
"""
_TIME_LIMIT_S = 120


def probe_virtual() -> Check:
    """Start the default virtual card and allocate one GiB of it."""
    with tempfile.TemporaryDirectory(prefix="peakvram-") as directory:
        try:
            machine = launch_machine(Path(directory), find_gpu(DEFAULT_VIRTUAL_GPU))
        except EnvironmentUnfitError as error:
            return Check(name="virtual GPU", status=Status.FAIL, detail=error.message, hint=error.hint)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _PROGRAM],
                env=machine.environment(os.environ),
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIME_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return Check(
                name="virtual GPU",
                status=Status.FAIL,
                detail=f"did not start within {_TIME_LIMIT_S} s",
                hint="the machine may be overloaded",
            )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return Check(
            name="virtual GPU",
            status=Status.FAIL,
            detail=f"does not start: {lines[-1] if lines else f'exit code {done.returncode}'}",
            hint="rebuild it: python -m profiler.virtual.build",
        )
    return Check(name="virtual GPU", status=Status.OK, detail=f"starts: {done.stdout.strip()}")
