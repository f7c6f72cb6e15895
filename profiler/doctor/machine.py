"""What of this machine matters to peakvram, and what is amiss: the answer to "it does not work here"."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.doctor.checks import Check, Diagnosis, fail, ok, warn
from profiler.doctor.gpus import check_gpus
from profiler.doctor.versions import check_versions
from profiler.hardware.torch_build import find_torch_build
from profiler.units import GIB, format_bytes
from profiler.virtual.state import library_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OLDEST_PYTHON = (3, 11)
LIBRARIES = ("transformers", "peft", "bitsandbytes", "accelerate")

# They change what a job allocates, or which card it runs on.
ALLOCATOR_VARIABLES = (
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
)
HUB_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
# Their values are secrets: only whether they are set is ever shown.
SECRET_VARIABLES = ("HF_TOKEN",)

LITTLE_DISK_BYTES = GIB
"""A record takes some tens of KiB, a memory snapshot up to some hundreds of MiB."""


def diagnose(
    *,
    results_directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
    probes: Iterable[Callable[[], Check]] = (),
) -> Diagnosis:
    """Looks at everything; nothing is changed and torch is not imported.

    Args:
        results_directory: where results would be written; the working directory if none is given.
        environ: the environment variables of a job; our own if none are given.
        probes: each starts a process that imports torch, and says how that went.
    """
    variables = os.environ if environ is None else environ
    checks = [
        _check_python(),
        _check_platform(),
        _check_torch(),
        *(_check_library(name) for name in LIBRARIES),
        check_versions(),
        _check_virtual_library(),
        *(probe() for probe in probes),
        *check_gpus(variables),
        _check_allocator(variables),
        _check_hub(variables),
        _check_disk(Path.cwd() if results_directory is None else results_directory),
    ]
    return Diagnosis(checks=tuple(checks))


def _check_python() -> Check:
    detail = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return fail("python", detail, hint="peakvram needs Python 3.11 or later")
    return ok("python", detail)


def _check_platform() -> Check:
    detail = f"{platform.system()} {platform.machine()}"
    match platform.system(), platform.machine().lower():
        case "Linux", "x86_64" | "amd64":
            return ok("platform", detail)
        case "Linux", _:
            hint = "virtual GPUs need Linux on x86_64; a real NVIDIA GPU works here"
        case "Windows", _:
            hint = "virtual GPUs need Linux: use WSL 2, which also reaches the real GPU"
        case _:
            hint = "neither virtual nor NVIDIA GPUs work here: use Linux on x86_64, or a Linux container"
    return warn("platform", detail, hint=hint)


def _check_torch() -> Check:
    build = find_torch_build()
    if build is None:
        return fail("torch", "not installed", hint="pip install torch")
    if build.cuda is None:
        hint = "real and virtual GPUs both need the CUDA build, as `pip install torch` gives on Linux"
        return fail("torch", f"{build.version}, built without CUDA", hint=hint)
    return ok("torch", f"{build.version}, built for CUDA {build.cuda}")


def _check_library(name: str) -> Check:
    try:
        return ok(name, version(name))
    except PackageNotFoundError:
        return fail(name, "not installed", hint=f"pip install {name}")


def _check_virtual_library() -> Check:
    path = library_path()
    if path.is_file():
        return ok("virtual GPU", f"built: {path}")
    hint = "install peakvram again on Linux x86_64, or build it: python -m profiler.virtual.build"
    return warn("virtual GPU", f"its library is not built: {path}", hint=hint)


def _check_allocator(environ: Mapping[str, str]) -> Check:
    variables = [f"{name}={environ[name]}" for name in ALLOCATOR_VARIABLES if name in environ]
    if not variables:
        return ok("environment", "no variable changes the allocator or the cards")
    hint = "they change what a job allocates or where it runs; a job's own alloc_conf is recorded with it"
    return warn("environment", ", ".join(variables), hint=hint)


def _check_hub(environ: Mapping[str, str]) -> Check:
    told = [f"{name}={environ[name]}" if name in environ else f"{name} not set" for name in HUB_VARIABLES]
    told += [f"{name} {'set' if environ.get(name) else 'not set'}" for name in SECRET_VARIABLES]
    return ok("hugging face", ", ".join(told))


def _check_disk(directory: Path) -> Check:
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    detail = f"{format_bytes(free_bytes)} free for {directory}"
    if free_bytes < LITTLE_DISK_BYTES:
        return warn("disk", detail, hint="make room, or write results elsewhere")
    if not os.access(existing, os.W_OK):
        return fail("disk", f"{existing} cannot be written to", hint="use --out")
    return ok("disk", detail)
