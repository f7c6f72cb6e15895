"""Structs that cross between C, CUDA's clients and Python lie where each expects them."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profiler.hardware.catalogue import find_gpu
from profiler.virtual import state
from profiler.virtual.build import SOURCES
from tests.virtual.probe import (
    Layout,
    compile_constants,
    compile_layouts,
    cuda_include_directories,
    parse_layouts,
)

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines

GPU = "a100-80gb"
DATA = Path(__file__).parents[1] / "data"
POISON = 0xA5
ROOM = 4096  # around what a function may write

# What each field of cudaDeviceProp must hold, by its name in CUDA's header. 0: a virtual card lacks it.
A100 = find_gpu(GPU)
PROPERTIES: dict[str, int | tuple[int, ...]] = {
    "totalGlobalMem": A100.total_bytes,
    "sharedMemPerBlock": 48 << 10,
    "regsPerBlock": 65536,
    "warpSize": 32,
    "memPitch": 2**31 - 1,
    "maxThreadsPerBlock": 1024,
    "maxThreadsDim": (1024, 1024, 64),
    "maxGridSize": (2**31 - 1, 65535, 65535),
    "totalConstMem": 65536,
    "major": 8,
    "minor": 0,
    "textureAlignment": 512,
    "multiProcessorCount": A100.num_sms,
    "integrated": 0,
    "canMapHostMemory": 1,
    "concurrentKernels": 1,
    "ECCEnabled": 0,
    "pciBusID": 1,
    "pciDeviceID": 0,
    "pciDomainID": 0,
    "asyncEngineCount": 2,
    "unifiedAddressing": 1,
    "memoryBusWidth": A100.memory_bus_width_bits or 0,
    "l2CacheSize": A100.l2_cache_bytes or 0,
    "persistingL2CacheMaxSize": 0,
    "maxThreadsPerMultiProcessor": A100.max_threads_per_sm,
    "streamPrioritiesSupported": 1,
    "globalL1CacheSupported": 1,
    "localL1CacheSupported": 1,
    "sharedMemPerMultiprocessor": A100.shared_memory_per_sm_bytes,
    "regsPerMultiprocessor": 65536,
    "managedMemory": 1,
    "isMultiGpuBoard": 0,
    "hostNativeAtomicSupported": 0,
    "pageableMemoryAccess": 0,
    "concurrentManagedAccess": 1,
    "computePreemptionSupported": 1,
    "canUseHostPointerForRegisteredMem": 1,
    "cooperativeLaunch": 1,
    "sharedMemPerBlockOptin": A100.max_shared_memory_per_block_optin_bytes,
    "directManagedMemAccessFromHost": 0,
    "maxBlocksPerMultiProcessor": A100.max_blocks_per_sm,
    "accessPolicyMaxWindowSize": 0,
    "reservedSharedMemPerBlock": 1024,
}

# The same facts asked one by one: the runtime's name for the attribute, and the property it must agree with.
ATTRIBUTES = {
    "cudaDevAttrMaxThreadsPerBlock": 1024,
    "cudaDevAttrMaxSharedMemoryPerBlock": PROPERTIES["sharedMemPerBlock"],
    "cudaDevAttrWarpSize": 32,
    "cudaDevAttrMaxRegistersPerBlock": 65536,
    "cudaDevAttrMultiProcessorCount": PROPERTIES["multiProcessorCount"],
    "cudaDevAttrConcurrentKernels": 1,
    "cudaDevAttrPciBusId": 1,
    "cudaDevAttrGlobalMemoryBusWidth": PROPERTIES["memoryBusWidth"],
    "cudaDevAttrL2CacheSize": PROPERTIES["l2CacheSize"],
    "cudaDevAttrMaxThreadsPerMultiProcessor": PROPERTIES["maxThreadsPerMultiProcessor"],
    "cudaDevAttrUnifiedAddressing": 1,
    "cudaDevAttrComputeCapabilityMajor": 8,
    "cudaDevAttrComputeCapabilityMinor": 0,
    "cudaDevAttrMaxSharedMemoryPerMultiprocessor": PROPERTIES["sharedMemPerMultiprocessor"],
    "cudaDevAttrMaxRegistersPerMultiprocessor": 65536,
    "cudaDevAttrManagedMemory": 1,
    "cudaDevAttrConcurrentManagedAccess": 1,
    "cudaDevAttrCooperativeLaunch": 1,
    "cudaDevAttrMaxSharedMemoryPerBlockOptin": PROPERTIES["sharedMemPerBlockOptin"],
    "cudaDevAttrMaxBlocksPerMultiprocessor": PROPERTIES["maxBlocksPerMultiProcessor"],
    "cudaDevAttrReservedSharedMemoryPerBlock": 1024,
    "cudaDevAttrMemoryPoolsSupported": 0,
    "cudaDevAttrIpcEventSupport": 0,
}
DRIVER_ATTRIBUTES = {
    "CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED": 1,
    "CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED": 0,
}


def test_the_python_mirror_of_the_shared_state_lies_as_the_c_struct_does(tmp_path: Path) -> None:
    mirrors: dict[str, type[ctypes.Structure]] = {
        "vgpu_state": state.StateLayout,
        "vgpu_device": state._Device,
        "vgpu_process": state._Process,
    }
    fields = {struct: [name for name, *_ in mirror._fields_] for struct, mirror in mirrors.items()}
    compiled = compile_layouts(tmp_path, "state.h", fields, include=[SOURCES])
    assert compiled == {struct: _mirrored(mirror) for struct, mirror in mirrors.items()}


def _mirrored(mirror: type[ctypes.Structure]) -> Layout:
    places = {name: getattr(mirror, name) for name, *_ in mirror._fields_}
    return Layout(ctypes.sizeof(mirror), {name: (place.offset, place.size) for name, place in places.items()})


def test_the_quirks_and_limits_in_python_are_those_in_c(tmp_path: Path) -> None:
    in_python = {f"VGPU_QUIRK_{quirk.name}": int(quirk) for quirk in state.Quirk} | {
        "VGPU_MAX_DEVICES": state.MAX_DEVICES,
        "VGPU_MAX_PROCESSES": state.MAX_PROCESSES,
        "VGPU_MAX_UNKNOWN": state.MAX_UNKNOWN,
    }
    assert compile_constants(tmp_path, "state.h", in_python, include=[SOURCES]) == in_python


@pytest.fixture(scope="module")
def cuda13(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Layout]:
    structs = {f"struct {name}": list(layout.fields) for name, layout in cuda12_layouts().items()}
    structs["struct cudaDeviceProp"] = ["name", "uuid", *PROPERTIES]
    directory = tmp_path_factory.mktemp("cuda13")
    return compile_layouts(directory, "driver_types.h", structs, include=cuda_include_directories())


def cuda12_layouts() -> dict[str, Layout]:
    return parse_layouts((DATA / "cuda12_layouts.txt").read_text())


def test_cuda_12_finds_every_device_property_where_its_header_says(virtual_gpu: WarmMachines) -> None:
    _check_properties(
        virtual_gpu, "cudaGetDeviceProperties_v2", cuda12_layouts()["cudaDeviceProp"], size=1032
    )


def test_cuda_13_finds_every_device_property_where_its_header_says(
    virtual_gpu: WarmMachines, cuda13: dict[str, Layout]
) -> None:
    _check_properties(virtual_gpu, "cudaGetDeviceProperties", cuda13["cudaDeviceProp"], size=1008)


def _check_properties(virtual_gpu: WarmMachines, function: str, layout: Layout, *, size: int) -> None:
    assert layout.size == size
    assert set(layout.fields) == {"name", "uuid", *PROPERTIES}
    written = bytes.fromhex(virtual_gpu(GPU, _write_properties, function))
    assert set(written[size:]) == {POISON}  # nothing was written beyond the struct
    found = {name: _read(written, *place) for name, place in layout.fields.items() if name in PROPERTIES}
    assert found == PROPERTIES
    at, length = layout.fields["name"]
    assert written[at : at + length].rstrip(b"\0").decode() == A100.name
    at, length = layout.fields["uuid"]
    assert written[at : at + length].hex() == state.device_uuid(A100.name, 0)[4:].replace("-", "")


def _read(written: bytes, offset: int, size: int) -> int | tuple[int, ...]:
    if size == 12:
        return tuple(int.from_bytes(written[i : i + 4], "little") for i in range(offset, offset + size, 4))
    return int.from_bytes(written[offset : offset + size], "little")


def _write_properties(function: str) -> str:
    buffer = ctypes.create_string_buffer(bytes([POISON]) * ROOM, ROOM)
    assert getattr(ctypes.CDLL(None), function)(buffer, 0) == 0
    return buffer.raw.hex()


def test_device_attributes_have_the_numbers_of_cudas_header(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    include = cuda_include_directories()
    numbers = compile_constants(tmp_path, "driver_types.h", ATTRIBUTES, include=include)
    numbers |= compile_constants(tmp_path, "cuda.h", DRIVER_ATTRIBUTES, include=include)
    expected = ATTRIBUTES | DRIVER_ATTRIBUTES
    values = virtual_gpu(GPU, _ask_attributes, list(numbers.values()))
    assert dict(zip(numbers, values, strict=True)) == {name: [expected[name]] * 2 for name in numbers}


def _ask_attributes(numbers: list[int]) -> list[list[int]]:
    library = ctypes.CDLL(None)

    def ask(function: Any, number: int) -> int:
        value = ctypes.c_int(-1)
        assert function(ctypes.byref(value), number, 0) == 0
        return value.value

    both = (library.cudaDeviceGetAttribute, library.cuDeviceGetAttribute)
    return [[ask(function, number) for function in both] for number in numbers]


def test_a_kernels_attributes_lie_where_both_headers_say(
    virtual_gpu: WarmMachines, cuda13: dict[str, Layout]
) -> None:
    layout = cuda12_layouts()["cudaFuncAttributes"]
    named = cuda13["cudaFuncAttributes"].fields
    assert layout.size == cuda13["cudaFuncAttributes"].size == 144
    assert {name: named[name] for name in layout.fields} == dict(layout.fields)
    written = bytes.fromhex(virtual_gpu("rtx-4090", _write_function_attributes))
    assert set(written[144:]) == {POISON}
    found = {name: _read(written, *place) for name, place in layout.fields.items()}
    assert found["maxThreadsPerBlock"] == 1024
    assert (
        found["ptxVersion"] == found["binaryVersion"] == 86
    )  # the newest of the wheel's that an 8.9 card runs
    assert found["maxDynamicSharedSizeBytes"] == 101_376
    assert found["sharedSizeBytes"] == found["localSizeBytes"] == 0


def _write_function_attributes() -> str:
    import torch

    assert torch.cuda.is_available()
    buffer = ctypes.create_string_buffer(bytes([POISON]) * ROOM, ROOM)
    assert ctypes.CDLL(None).cudaFuncGetAttributes(buffer, ctypes.c_void_p(1)) == 0
    return buffer.raw.hex()


@pytest.mark.parametrize("kind", ["device", "managed", "pinned", "unknown"])
def test_a_pointers_attributes_fill_the_24_bytes_both_headers_share(
    virtual_gpu: WarmMachines, cuda13: dict[str, Layout], kind: str
) -> None:
    layout = cuda12_layouts()["cudaPointerAttributes"]
    assert layout.size == 24
    assert {name: cuda13["cudaPointerAttributes"].fields[name] for name in layout.fields} == dict(
        layout.fields
    )
    pointer, hexadecimal = virtual_gpu(GPU, _write_pointer_attributes, kind)
    written = bytes.fromhex(hexadecimal)
    assert set(written[24:]) == {POISON}
    found = {name: _read(written, *place) for name, place in layout.fields.items()}
    # cudaMemoryType: unregistered 0, host 1, device 2, managed 3; cudaInvalidDeviceId is -2.
    assert (
        found
        == {
            "device": {"type": 2, "device": 0, "devicePointer": pointer, "hostPointer": 0},
            "managed": {"type": 3, "device": 0, "devicePointer": pointer, "hostPointer": pointer},
            "pinned": {"type": 1, "device": 0, "devicePointer": pointer, "hostPointer": pointer},
            "unknown": {"type": 0, "device": 2**32 - 2, "devicePointer": 0, "hostPointer": 0},
        }[kind]
    )


def _write_pointer_attributes(kind: str) -> tuple[int, str]:
    library = ctypes.CDLL(None)
    pointer = ctypes.c_void_p()
    size = ctypes.c_size_t(4096)
    match kind:
        case "device":
            assert library.cudaMalloc(ctypes.byref(pointer), size) == 0
        case "managed":
            assert library.cudaMallocManaged(ctypes.byref(pointer), size, 1) == 0
        case "pinned":
            assert library.cudaHostAlloc(ctypes.byref(pointer), size, 0) == 0
        case _:
            pointer = ctypes.c_void_p(ctypes.addressof(pointer))
    buffer = ctypes.create_string_buffer(bytes([POISON]) * ROOM, ROOM)
    assert library.cudaPointerGetAttributes(buffer, pointer) == 0
    assert pointer.value is not None
    return pointer.value, buffer.raw.hex()
