"""The software a job runs with, and the environment variables it is given."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from profiler import __version__
from profiler.hardware.torch_build import find_torch_build
from profiler.records.schema import Environment
from profiler.resources import PACKAGE_ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

ALLOC_CONF_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The allocator's settings: the name since torch 2.9, and the one before, which is still read."""

RECORDED_VARIABLES = (
    *ALLOC_CONF_VARIABLES,
    *("PYTORCH_NO_CUDA_MEMORY_CACHING", "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE"),
    *("TORCH_CUBLASLT_UNIFIED_WORKSPACE", "CUDA_MODULE_LOADING", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_ORDER"),
    *("NVIDIA_TF32_OVERRIDE", "BNB_CUDA_VERSION", "HF_DEACTIVATE_ASYNC_LOAD", "HF_HUB_OFFLINE"),
    "OMP_NUM_THREADS",
)
"""What may change memory. Nothing else of the environment is ever stored: it may hold secrets."""


def worker_variables(base: Mapping[str, str], *, alloc_conf: str, is_virtual: bool) -> dict[str, str]:
    """The environment of a worker: `base`, made the same for every job.

    Args:
        base: of the parent.
        alloc_conf: the job's allocator settings, which alone count.
        is_virtual: whether the card is virtual, where the CPU has next to nothing to compute.
    """
    variables = {name: value for name, value in base.items() if name not in ALLOC_CONF_VARIABLES}
    if alloc_conf:
        variables |= dict.fromkeys(_alloc_conf_names(), alloc_conf)
    variables |= {
        # With threads, transformers loads weights in an order that differs from run to run.
        "HF_DEACTIVATE_ASYNC_LOAD": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONHASHSEED": "0",  # the order of sets, and when garbage is collected, the same in every run
        "PYTHONWARNINGS": "ignore",
    }
    if is_virtual:
        variables["OMP_NUM_THREADS"] = "1"
    return variables


def read_environment(
    *, alloc_conf: str, driver: str | None, variables: Mapping[str, str] | None = None
) -> Environment:
    """The versions of everything that decides memory, and the recorded variables that are set.

    Args:
        alloc_conf: the job's allocator settings.
        driver: the driver's version; None for a virtual card.
        variables: of the worker; this process's own if none are given.
    """
    given = os.environ if variables is None else variables
    return Environment(
        peakvram=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        **library_versions(),
        driver=driver,
        alloc_conf=alloc_conf,
        variables={name: given[name] for name in RECORDED_VARIABLES if name in given},
        git=_git_commit(),
    )


def library_versions() -> dict[str, str | None]:
    """The installed versions of the libraries that decide memory; None for one that is not there."""
    build = find_torch_build()
    return {
        "torch": build.version if build else None,
        "cuda": build.cuda if build else None,
        **{name: _version(name) for name in ("transformers", "peft", "bitsandbytes", "accelerate")},
    }


def _alloc_conf_names() -> tuple[str, ...]:
    build = find_torch_build()
    newest, oldest = ALLOC_CONF_VARIABLES
    numbers = build.version.split(".")[:2] if build else ["2", "9"]
    return (newest,) if tuple(map(int, numbers)) >= (2, 9) else (oldest,)


@cache
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def _git_commit() -> str | None:
    """The commit of a source checkout, with `-dirty` where it was changed; None for an installed package."""
    if not (PACKAGE_ROOT / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=PACKAGE_ROOT, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
