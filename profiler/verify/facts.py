"""What CUDA itself says of a real card: asked in a process of its own, before any job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError

if TYPE_CHECKING:
    from profiler.hardware.nvml import RealGpu

_TIME_LIMIT_S = 180

# Attributes by their number in cuda.h (CUdevice_attribute): the same in every CUDA release, and not all of
# them are among torch's device properties. Of what is used, only this process's own is asked for.
_PROGRAM = """
import ctypes, json, os
import torch
torch.cuda.init()
free_bytes, total_bytes = torch.cuda.mem_get_info(0)
driver = ctypes.CDLL("libcuda.so.1")
def ask(number):
    value = ctypes.c_int(0)
    if driver.cuDeviceGetAttribute(ctypes.byref(value), number, 0) != 0:
        raise RuntimeError(f"the driver does not tell attribute {number}")
    return value.value
told = {
    "name": torch.cuda.get_device_name(0),
    "total_bytes": total_bytes,
    "context_bytes": total_bytes - free_bytes,
    "compute_capability": (ask(75), ask(76)),
    "num_sms": ask(16),
    "memory_bus_width_bits": ask(37),
    "l2_cache_bytes": ask(38),
    "max_threads_per_sm": ask(39),
    "shared_memory_per_sm_bytes": ask(81),
    "max_shared_memory_per_block_optin_bytes": ask(97),
    "max_blocks_per_sm": ask(106),
}
print(json.dumps(told), flush=True)
os._exit(0)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What CUDA says of a card.

    Attributes:
        name: as torch gives it.
        total_bytes: the memory CUDA reports.
        context_bytes: used of it once there is a CUDA context: the context, and what others hold.
        compute_capability: major and minor.
        num_sms: streaming multiprocessors; a MIG slice's own.
        memory_bus_width_bits: the memory bus; 0 where the driver does not tell.
        l2_cache_bytes: the level-2 cache.
        max_threads_per_sm: resident threads of one multiprocessor.
        shared_memory_per_sm_bytes: shared memory of one multiprocessor.
        max_shared_memory_per_block_optin_bytes: shared memory one block may ask for.
        max_blocks_per_sm: resident blocks of one multiprocessor.
    """

    name: str
    total_bytes: int
    context_bytes: int
    compute_capability: tuple[int, int]
    num_sms: int
    memory_bus_width_bits: int
    l2_cache_bytes: int
    max_threads_per_sm: int
    shared_memory_per_sm_bytes: int
    max_shared_memory_per_block_optin_bytes: int
    max_blocks_per_sm: int


def ask_card(gpu: RealGpu) -> CardFacts:
    """What CUDA says of `gpu`; a process makes a context on it for a moment.

    Raises:
        EnvironmentUnfitError: CUDA does not work there.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu.uuid},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentUnfitError(
            f"{gpu.name} does not answer CUDA within {_TIME_LIMIT_S} s", hint="`peakvram doctor` may say why"
        ) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EnvironmentUnfitError(
            f"CUDA does not work on {gpu.name}: {last}", hint="`peakvram doctor` may say why"
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return CardFacts(**{**told, "compute_capability": tuple(told["compute_capability"])})
