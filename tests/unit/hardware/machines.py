"""Machines with difficult cards: the NVML stand-in behind the real pynvml, in a process of its own."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from profiler.units import GIB, MIB
from profiler.virtual.state import Machine, StateLayout, VirtualDevice
from tests.builders import ROOT

# Above Linux's largest process id, so that no living process lends it a name.
NOBODY = 5_000_000

# What every script in a machine starts with; it ends by calling `show` once.
PRELUDE = """
import dataclasses, json, mmap, os, sys
from profiler.errors import PeakvramError
from profiler.virtual.state import StateLayout

def plain(value):
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value

def show(value):
    print(json.dumps(plain(value)))

def attempt(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except PeakvramError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}

def live_state():
    with open(os.environ["PEAKVRAM_VGPU"], "r+b") as file:
        state = StateLayout.from_buffer(mmap.mmap(file.fileno(), 0))
    state.num_slots = max(state.num_slots, 1)  # scripts fill the first slot themselves
    return state
"""


Play = Callable[..., "Bench"]


@dataclass(frozen=True)
class Bench:
    """A machine to run scripts on."""

    machine: Machine

    def run(self, *sources: str, **environment: str) -> Any:
        """What the script of these parts shows; the variables given here are set for it."""
        source = "".join(textwrap.dedent(part) + "\n" for part in sources)
        return run_script(source, self.machine.environment(os.environ) | environment)

    def state(self) -> StateLayout:
        """The live state: what is written to it, the machine's processes see."""
        with self.machine.state_path.open("r+b") as file:
            return StateLayout.from_buffer(mmap.mmap(file.fileno(), 0))

    def hold(self, num_bytes: int, *, pid: int, device: int = 0, slot: int = 0) -> None:
        """Lets a process (which must be alive) hold memory on a card, beside its context."""
        state = self.state()
        process, card = state.processes[slot], state.devices[device]
        process.pid, process.contexts = pid, process.contexts | 1 << device
        process.held_bytes[device] = num_bytes
        state.num_slots = max(state.num_slots, slot + 1)
        card.held_bytes += num_bytes
        card.used_bytes += num_bytes + card.context_bytes


def run_script(source: str, environment: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + source],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def a_device(**changes: Any) -> VirtualDevice:
    figures: dict[str, Any] = {
        "name": "NVIDIA GeForce RTX 4090",
        "total_bytes": 24_000 * MIB,
        "nvml_total_bytes": 24_500 * MIB,
        "context_bytes": 400 * MIB,
        "compute_capability": (8, 9),
        "num_sms": 128,
        "max_threads_per_sm": 1536,
        "max_blocks_per_sm": 24,
        "shared_memory_per_block_optin_bytes": 101_376,
        "shared_memory_per_sm_bytes": 102_400,
        "l2_cache_bytes": 72 * MIB,
        "memory_bus_width_bits": 384,
        "other_pid": 0,
    }
    return VirtualDevice(**(figures | changes))


def an_a100(**changes: Any) -> VirtualDevice:
    a100 = {"name": "NVIDIA A100-SXM4-80GB", "compute_capability": (8, 0), "num_sms": 108}
    return a_device(**(a100 | {"total_bytes": 79 * GIB, "nvml_total_bytes": 80 * GIB} | changes))


def without_a_driver() -> dict[str, str]:
    """Our own environment, without the paths by which a stand-in could be found."""
    return {name: os.environ[name] for name in os.environ.keys() - {"LD_PRELOAD", "LD_LIBRARY_PATH"}}
