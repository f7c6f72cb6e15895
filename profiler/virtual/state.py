"""The pretended machine: its devices, its counters, and the directory that makes a process see them.

The layout mirrors `csrc/state.h`; a test holds every offset to the compiled library's.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import uuid
from dataclasses import asdict, dataclass, fields
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.virtual.build import LIBRARY_NAME, LINK_NAMES
from profiler.virtual.torch_private import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAGIC = 0x5550475652414D31
MAX_DEVICES = 8
MAX_PROCESSES = 4096
MAX_UNKNOWN = 4096
STATE_VARIABLE = "PEAKVRAM_VGPU"


class Quirk(IntFlag):
    """What a difficult card does; the NVML stand-in answers as such a card would."""

    NO_PROCESS_MEMORY = 1 << 0
    MIG = 1 << 1
    DRIVER_TOO_OLD = 1 << 2
    LOST = 1 << 3
    NVML_REVERSED = 1 << 4
    NO_MEMORY_V2 = 1 << 5
    HOST_PIDS = 1 << 6


NO_QUIRKS = Quirk(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualDevice:
    """One pretended card: figures from the catalogue, in bytes where they are sizes.

    `context_bytes` is what one process's CUDA context takes; `other_bytes` is held by other, pretended
    processes (shown by NVML under `other_pid`).
    """

    name: str
    total_bytes: int
    nvml_total_bytes: int
    context_bytes: int
    compute_capability: tuple[int, int]
    num_sms: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    shared_memory_per_block_optin_bytes: int
    shared_memory_per_sm_bytes: int
    l2_cache_bytes: int
    memory_bus_width_bits: int
    other_bytes: int = 0
    other_pid: int = 4242


class _Device(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 96),
        ("uuid", ctypes.c_char * 48),
        ("total_bytes", ctypes.c_uint64),
        ("nvml_total_bytes", ctypes.c_uint64),
        ("context_bytes", ctypes.c_uint64),
        ("other_bytes", ctypes.c_uint64),
        ("l2_cache_bytes", ctypes.c_uint64),
        ("shared_memory_per_block_optin_bytes", ctypes.c_uint64),
        ("shared_memory_per_sm_bytes", ctypes.c_uint64),
        ("other_pid", ctypes.c_int32),
        ("cc_major", ctypes.c_int32),
        ("cc_minor", ctypes.c_int32),
        ("ptx_version", ctypes.c_int32),
        ("num_sms", ctypes.c_int32),
        ("max_threads_per_sm", ctypes.c_int32),
        ("max_blocks_per_sm", ctypes.c_int32),
        ("memory_bus_width_bits", ctypes.c_int32),
        ("held_bytes", ctypes.c_uint64),
        ("used_bytes", ctypes.c_uint64),
        ("used_peak_bytes", ctypes.c_uint64),
        ("num_allocations", ctypes.c_uint64),
        ("num_frees", ctypes.c_uint64),
        ("num_refusals", ctypes.c_uint64),
        ("num_launches", ctypes.c_uint64),
    )


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int32),
        ("contexts", ctypes.c_uint32),
        ("started", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("managed_bytes", ctypes.c_uint64),
        ("held_bytes", ctypes.c_uint64 * MAX_DEVICES),
        ("used_peak_bytes", ctypes.c_uint64 * MAX_DEVICES),
    )


class StateLayout(ctypes.Structure):
    """`vgpu_state` of `csrc/state.h`."""

    _fields_ = (
        ("magic", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("num_devices", ctypes.c_int32),
        ("cuda_version", ctypes.c_int32),
        ("driver_version", ctypes.c_int32),
        ("driver_name", ctypes.c_char * 32),
        ("quirks", ctypes.c_uint32),
        ("cudnn_calls", ctypes.c_uint32),
        ("managed_bytes", ctypes.c_uint64),
        ("managed_peak_bytes", ctypes.c_uint64),
        ("num_unknown", ctypes.c_uint32),
        ("num_communicators", ctypes.c_uint32),
        ("cusolver_calls", ctypes.c_uint32),
        ("cufft_calls", ctypes.c_uint32),
        ("num_host_refusals", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("devices", _Device * MAX_DEVICES),
        ("lock_owner", ctypes.c_uint64),
        ("num_slots", ctypes.c_uint32),
        ("is_unsettled", ctypes.c_uint32),
        ("processes", _Process * MAX_PROCESSES),
        ("unknown", ctypes.c_char * 64 * MAX_UNKNOWN),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A directory that makes a process see virtual GPUs: the state file and the libraries' names."""

    directory: Path
    library: Path

    @property
    def state_path(self) -> Path:
        """The shared state."""
        return self.directory / "state"

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with what a process needs to see this machine's GPUs instead of any real one."""
        hidden = {
            "CUDA_VISIBLE_DEVICES",
            "CUDA_DEVICE_ORDER",
            "PYTORCH_NVML_BASED_CUDA_CHECK",
            "CUDA_MPS_PIPE_DIRECTORY",
        }
        environment = {name: value for name, value in base.items() if name not in hidden}
        environment[STATE_VARIABLE] = str(self.state_path)
        environment["TRITON_LIBCUDA_PATH"] = str(self.directory)
        for name, first, separator in (
            ("LD_PRELOAD", self.library, " "),
            ("LD_LIBRARY_PATH", self.directory, ":"),
        ):
            environment[name] = separator.join(filter(None, (str(first), base.get(name, ""))))
        return environment


def create_machine(  # noqa: PLR0913 - one parameter a fact of the machine
    directory: Path,
    devices: Sequence[VirtualDevice],
    *,
    library: Path,
    cuda_version: int = 13000,
    driver_name: str = "580.65.06",
    quirks: Quirk = NO_QUIRKS,
) -> Machine:
    """Lay out a machine with these devices in an existing, private directory.

    Args:
        directory: receives the state file and links named as the driver's and NVML's libraries.
        devices: at most eight.
        library: the compiled stand-in.
        cuda_version: of the torch wheel that will run, as CUDA encodes it (12010, 13000).
        driver_name: the driver version that NVML shows.
        quirks: how difficult a card to play.
    """
    if not 0 <= len(devices) <= MAX_DEVICES:
        raise ValueError(f"a virtual machine has 0 to {MAX_DEVICES} devices, not {len(devices)}")
    state = StateLayout(
        magic=MAGIC,
        size=ctypes.sizeof(StateLayout),
        num_devices=len(devices),
        cuda_version=cuda_version,
        driver_version=11040 if quirks & Quirk.DRIVER_TOO_OLD else cuda_version,
        driver_name=driver_name.encode(),
        quirks=int(quirks),
    )
    for index, device in enumerate(devices):
        state.devices[index] = _device(device, index)
    machine = Machine(directory=directory, library=library)
    with machine.state_path.open("wb") as file:  # what is empty takes no room
        file.write(memoryview(state).cast("B")[: StateLayout.processes.offset])
        file.truncate(state.size)
    for name in LINK_NAMES:
        (directory / name).symlink_to(library)
    return machine


def device_uuid(name: str, index: int) -> str:
    """A UUID that is the same in every run, as a real card's is."""
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_URL, f'peakvram:{name}:{index}')}"


_SAME = {field.name for field in fields(VirtualDevice)} - {"name", "compute_capability"}


def _device(device: VirtualDevice, index: int) -> _Device:
    major, minor = device.compute_capability
    return _Device(
        name=device.name.encode(),
        uuid=device_uuid(device.name, index).encode(),
        cc_major=major,
        cc_minor=minor,
        ptx_version=10 * major + minor,
        used_bytes=device.other_bytes,
        used_peak_bytes=device.other_bytes,
        **{name: value for name, value in asdict(device).items() if name in _SAME},
    )


def open_state(path: Path) -> StateLayout:
    """The live state, shared with every process of the machine: each sees what the others write.

    The mapping lasts as long as the returned value or any part of it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        mapped = mmap.mmap(descriptor, ctypes.sizeof(StateLayout))
    finally:
        os.close(descriptor)
    return StateLayout.from_buffer(mapped)


def set_architectures(state: StateLayout) -> None:
    """Have each card report the newest architecture of the wheel that it can run: 86 on an 8.9 card.

    CUB asks it of a kernel, and fails where the wheel was not built for the answer.
    """
    for index in range(state.num_devices):
        device = state.devices[index]
        device.ptx_version = _newest_runnable(device.cc_major, device.cc_minor)


def _newest_runnable(major: int, minor: int) -> int:
    """The newest architecture of the wheel that a card of this compute capability can run.

    A cubin runs on its own major version with an equal or higher minor one (CUDA programming guide, "Binary
    Compatibility"). Once asked, torch works in no fork of this process.
    """
    flags = ARCHITECTURES.find()() or ""
    built = [int(flag.removeprefix("sm_").rstrip("af")) for flag in flags.split() if flag.startswith("sm_")]
    runnable = [arch for arch in built if arch // 10 == major and arch % 10 <= minor]
    return max(runnable, default=10 * major + minor)


def process_peaks(state: StateLayout) -> dict[int, int]:
    """The most that each process held of the first card with its context, by process id, in bytes.

    Of those that died too, but where more than `MAX_PROCESSES` came after them.
    """
    peaks: dict[int, int] = {}
    for process in state.processes[: state.num_slots]:
        pid = abs(process.pid)
        peaks[pid] = max(peaks.get(pid, 0), int(process.used_peak_bytes[0]))
    return peaks


def unknown_functions(state: StateLayout) -> tuple[str, ...]:
    """The CUDA functions that were called and are not implemented, each once, the first called first."""
    return tuple(name.value.decode() for name in state.unknown[: state.num_unknown])


def workspaces_left_out(state: StateLayout) -> list[str]:
    """A note for each library that ran and whose workspace the figures leave out."""
    calls = {"cuDNN": state.cudnn_calls, "cuSOLVER": state.cusolver_calls, "cuFFT": state.cufft_calls}
    return [
        f"{library} ran: which workspace it would take of the card's memory is not known and left out"
        for library, number in calls.items()
        if number
    ]


def library_path() -> Path:
    """Where the compiled stand-in lies inside the installed package (whether or not it is there)."""
    return Path(__file__).parent / "lib" / LIBRARY_NAME
