"""Making a virtual card of the catalogue visible to a process, where that can work."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError
from profiler.hardware.torch_build import find_torch_build
from profiler.virtual.state import Machine, VirtualDevice, create_machine, library_path

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.hardware.catalogue import Gpu

PROVEN_CUDA_MAJORS = (12, 13)
"""CUDA releases whose struct layouts the stand-in knows (csrc/runtime_device.c)."""

_INSTALL_HINT = "use Linux on x86-64 with the CUDA build of torch (`pip install torch`); it needs no GPU"


def launch_machine(directory: Path, gpu: Gpu, *, count: int = 1) -> Machine:
    """Lay out a machine with `count` virtual cards of one kind in a private directory, made if missing.

    Raises:
        EnvironmentUnfitError: a virtual GPU cannot work here; the message says why.
    """
    cuda_version = check_possible()
    directory.mkdir(exist_ok=True)
    return create_machine(
        directory, [as_device(gpu)] * count, library=library_path(), cuda_version=cuda_version
    )


def as_device(gpu: Gpu) -> VirtualDevice:
    """A card of the catalogue as the virtual device shows it."""
    return VirtualDevice(
        name=gpu.name,
        total_bytes=gpu.total_bytes,
        nvml_total_bytes=max(gpu.total_bytes, gpu.nvml_total_bytes),
        context_bytes=gpu.context_bytes,
        compute_capability=gpu.compute_capability,
        num_sms=gpu.num_sms,
        max_threads_per_sm=gpu.max_threads_per_sm,
        max_blocks_per_sm=gpu.max_blocks_per_sm,
        shared_memory_per_block_optin_bytes=gpu.max_shared_memory_per_block_optin_bytes,
        shared_memory_per_sm_bytes=gpu.shared_memory_per_sm_bytes,
        l2_cache_bytes=gpu.l2_cache_bytes or 0,
        memory_bus_width_bits=gpu.memory_bus_width_bits or 0,
    )


def check_possible() -> int:
    """The CUDA version of the installed torch, if a virtual GPU can work here.

    Raises:
        EnvironmentUnfitError: the platform, torch or the compiled stand-in does not allow it.
    """
    if sys.platform != "linux":
        raise EnvironmentUnfitError(
            f"the virtual GPU needs Linux; this is {platform.system() or sys.platform}", hint=_INSTALL_HINT
        )
    build = find_torch_build()
    if build is None:
        raise EnvironmentUnfitError("torch is not installed", hint=_INSTALL_HINT)
    if build.cuda_version is None:
        raise EnvironmentUnfitError(
            f"the virtual GPU needs the CUDA build of torch; torch {build.version} has no CUDA",
            hint=_INSTALL_HINT,
        )
    if build.cuda_version // 1000 not in PROVEN_CUDA_MAJORS:
        raise EnvironmentUnfitError(
            f"torch {build.version} is for CUDA {build.cuda}, unknown to the virtual GPU",
            hint=f"install a torch for CUDA {' or '.join(map(str, PROVEN_CUDA_MAJORS))}",
        )
    if not library_path().is_file():
        raise EnvironmentUnfitError(
            "the virtual GPU's library has not been built",
            hint="reinstall peakvram; in a source tree: python -m profiler.virtual.build (needs ziglang)",
        )
    return build.cuda_version
