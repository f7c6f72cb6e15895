"""What only a process that imports torch can tell: whether a virtual card starts, what torch has lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.doctor.checks import Check, fail, ok
from profiler.errors import EnvironmentUnfitError
from profiler.hardware.catalogue import find_gpu
from profiler.hardware.discovery import DEFAULT_VIRTUAL_GPU
from profiler.hardware.torch_build import find_torch_build
from profiler.resources import PACKAGE_ROOT
from profiler.virtual.launch import launch_machine
from profiler.virtual.torch_private import NAMES, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALLOCATE = """
import os, torch
torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
print(torch.cuda.get_device_name(), torch.cuda.memory_reserved() >> 20, "MiB reserved", flush=True)
os._exit(0)
"""
_LOOK_UP = """
import sys
sys.path.insert(0, sys.argv[1])
from profiler.virtual.torch_private import list_lost
print(*list_lost(), sep="\\n")
"""
_TIME_LIMIT_S = 120


def probe_virtual() -> Check:
    """Start the default virtual card and allocate one GiB of it."""
    with tempfile.TemporaryDirectory(prefix="peakvram-") as directory:
        try:
            machine = launch_machine(Path(directory), find_gpu(DEFAULT_VIRTUAL_GPU))
            return ok("virtual GPU", f"starts: {_run(_ALLOCATE, environ=machine.environment(os.environ))}")
        except EnvironmentUnfitError as error:
            return fail("virtual GPU", error.message, hint=error.hint)


def probe_torch() -> Check:
    """Look up every private name of torch that peakvram uses."""
    build = find_torch_build()
    if build is None or build.cuda is None:
        return fail("torch names", "not looked up: torch itself must be mended first")
    try:
        lost = _run(_LOOK_UP, environ=os.environ).splitlines()
    except EnvironmentUnfitError as error:
        return fail("torch names", error.message)
    if not lost:
        return ok("torch names", f"none of the {len(NAMES)} private ones that peakvram uses is lost")
    hint = f"install a torch whose names are known: {VERSIONS[0]} to {VERSIONS[-1]}"
    return fail("torch names", f"torch {build.version} has lost {', '.join(lost)}", hint=hint)


def _run(program: str, *, environ: Mapping[str, str]) -> str:
    """What a program prints.

    Raises:
        EnvironmentUnfitError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, str(PACKAGE_ROOT)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        why = f"did not start within {_TIME_LIMIT_S} s"
        raise EnvironmentUnfitError(why, hint="the machine may be overloaded") from error
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EnvironmentUnfitError(
            f"does not start: {why}", hint="rebuild it: python -m profiler.virtual.build"
        )
    return done.stdout.strip()
