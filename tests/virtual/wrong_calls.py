"""Calls that a real card refuses, each in a process of its own; shows what they answered on a virtual one.

Answers are those that NVIDIA's reference gives for a function: the CUDA Runtime and Driver API, cuBLAS,
cuDNN, cuSOLVER, cuFFT, cuSPARSE, NCCL and NVML.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from ctypes import byref, c_char, c_int, c_size_t, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

lib: Any = ctypes.CDLL(None)
PAGE = 2 << 20
WILD: Any = c_void_p(0x1234)
HUGE = c_size_t(2**64 - 1)
TO_DEVICE, FROM_DEVICE = 1, 2
INVALID_VALUE, OUT_OF_MEMORY, INVALID_SYMBOL, INVALID_DIRECTION = 1, 2, 13, 21
INVALID_FUNCTION, INVALID_DEVICE, INVALID_CONTEXT, INVALID_HANDLE = 98, 101, 201, 400
ALREADY_REGISTERED, NOT_REGISTERED = 712, 713
BLAS_NOT_INITIALIZED, DNN_BAD_PARAM, SOLVER_NOT_INITIALIZED, SOLVER_INVALID_VALUE = 1, 2000, 1, 3
FFT_INVALID_PLAN, SPARSE_NOT_INITIALIZED, NCCL_INVALID_ARGUMENT, NVML_INVALID_ARGUMENT = 1, 1, 4, 2


class Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        *((name, c_int) for name in ("type", "handle_types", "location_type", "location_id")),
        ("windows", c_void_p),
        ("flags", c_char * 8),
    )


def made(function: str, *arguments: object, kind: type = c_void_p) -> Any:
    """What a function that must succeed writes to its first argument."""
    handle = kind()
    code = getattr(lib, function)(byref(handle), *arguments)
    assert code == 0, (function, code)
    return handle


def device(num_bytes: int = 1 << 20) -> Any:
    """Live device memory."""
    return made("cudaMalloc", c_size_t(num_bytes))


def freed() -> Any:
    """Device memory that was given back."""
    pointer = device()
    assert lib.cudaFree(pointer) == 0
    return pointer


def dropped(create: str, destroy: str, kind: type = c_void_p) -> Any:
    """A handle that was given back."""
    handle = made(create, kind=kind)
    assert getattr(lib, destroy)(handle) == 0
    return handle


def reserved(pages: int = 2) -> Any:
    """An address range without memory."""
    return made(
        "cuMemAddressReserve", c_size_t(pages * PAGE), c_size_t(0), c_uint64(0), c_uint64(0), kind=c_uint64
    )


def physical(num_bytes: int = PAGE, **changes: int) -> tuple[int, c_uint64]:
    """What creating physical memory answers, and its handle."""
    handle = c_uint64()
    properties = Properties(**({"type": 1, "location_type": 1, "location_id": 0} | changes))
    code = lib.cuMemCreate(byref(handle), c_size_t(num_bytes), byref(properties), c_uint64(0))
    return code, handle


def mapped(pages: int = 1, *, of_pages: int = 1, twice: bool = False) -> tuple[int, c_uint64]:
    """What mapping memory at a range of two pages answers, and the range."""
    start, (_, handle) = reserved(), physical(of_pages * PAGE)
    code = map_at(start, handle, pages)
    return (map_at(start, handle, pages) if twice else code), start


def map_at(start: c_uint64, handle: c_uint64, pages: int = 1) -> int:
    return int(lib.cuMemMap(start, c_size_t(pages * PAGE), c_size_t(0), handle, c_uint64(0)))


def host_memory() -> c_uint64:
    """A whole page of 2 MiB of the program's own, full of sevens."""
    buffer = ctypes.create_string_buffer(b"\7" * 4 * PAGE, 4 * PAGE)
    kept.append(buffer)
    return c_uint64(-(-ctypes.addressof(buffer) // PAGE) * PAGE)


kept: list[object] = []


def leaves_host_memory(call: Callable[[c_uint64], int]) -> int:
    """What a call answers about host memory, if that is afterwards as it was."""
    start = host_memory()
    code = call(start)
    assert ctypes.string_at(start.value, PAGE) == b"\7" * PAGE
    return code


def copy(to: object, origin: object, num_bytes: int, direction: int) -> int:
    return int(lib.cudaMemcpy(to, origin, c_size_t(num_bytes), direction))


def unrecorded() -> int:
    time = ctypes.c_float()
    return int(lib.cudaEventElapsedTime(byref(time), made("cudaEventCreate"), made("cudaEventCreate")))


def registered_twice() -> int:
    start = c_void_p(host_memory().value)
    assert lib.cudaHostRegister(start, c_size_t(PAGE), 0) == 0
    return int(lib.cudaHostRegister(start, c_size_t(PAGE), 0))


def released_twice() -> int:
    _, handle = physical()
    assert lib.cuMemRelease(handle) == 0
    return int(lib.cuMemRelease(handle))


def freed_while_mapped() -> int:
    _, start = mapped()
    return int(lib.cuMemAddressFree(start, c_size_t(2 * PAGE)))


def half_unmapped() -> int:
    code, start = mapped(2, of_pages=2)
    assert code == 0
    return int(lib.cuMemUnmap(start, c_size_t(PAGE)))


def of_communicator(ask: str) -> int:
    number = c_int()
    return int(getattr(lib, ask)(WILD, byref(number)))


def nvml_name(handle: object) -> int:
    assert lib.nvmlInit_v2() == 0
    return int(lib.nvmlDeviceGetName(handle, ctypes.create_string_buffer(96), 96))


BUFFER = ctypes.create_string_buffer(4096)
NULL = c_void_p()
SOME, ONE_PAGE, ONES = c_size_t(64), c_size_t(PAGE), [1] * 7
OUT, SIZE = byref(c_void_p()), byref(c_size_t())

# What is called, what it must answer, and the call.
PROBES: dict[str, tuple[int, Callable[[], int]]] = {
    # device memory
    "cudaFree twice": (INVALID_VALUE, lambda: lib.cudaFree(freed())),
    "cudaFree of the stack": (INVALID_VALUE, lambda: lib.cudaFree(BUFFER)),
    "cudaFree of nothing known": (INVALID_VALUE, lambda: lib.cudaFree(WILD)),
    "cudaFree inside a block": (INVALID_VALUE, lambda: lib.cudaFree(c_void_p(device().value + 512))),
    "cudaFree of pinned memory": (INVALID_VALUE, lambda: lib.cudaFree(made("cudaMallocHost", c_size_t(64)))),
    "cudaFreeHost of device memory": (INVALID_VALUE, lambda: lib.cudaFreeHost(device())),
    "cuMemFree twice": (INVALID_VALUE, lambda: lib.cuMemFree_v2(freed())),
    "cudaMalloc to nowhere": (INVALID_VALUE, lambda: lib.cudaMalloc(NULL, c_size_t(1))),
    "cudaMalloc of too much": (OUT_OF_MEMORY, lambda: lib.cudaMalloc(OUT, HUGE)),
    "cudaMalloc of nothing": (0, lambda: lib.cudaMalloc(OUT, c_size_t(0))),
    "cuMemAlloc of nothing": (INVALID_VALUE, lambda: lib.cuMemAlloc_v2(OUT, c_size_t(0))),
    "cudaMallocManaged of too much": (OUT_OF_MEMORY, lambda: lib.cudaMallocManaged(OUT, HUGE, 1)),
    "cudaMallocManaged of nothing": (INVALID_VALUE, lambda: lib.cudaMallocManaged(OUT, c_size_t(0), 1)),
    "cudaHostAlloc of too much": (OUT_OF_MEMORY, lambda: lib.cudaHostAlloc(OUT, HUGE, 0)),
    # copies
    "cudaMemset of freed memory": (INVALID_VALUE, lambda: lib.cudaMemset(freed(), 0, c_size_t(64))),
    "cudaMemset of host memory": (
        INVALID_VALUE,
        lambda: leaves_host_memory(lambda start: lib.cudaMemset(start, 0, c_size_t(64))),
    ),
    "cudaMemset beyond the end": (INVALID_VALUE, lambda: lib.cudaMemset(device(), 0, c_size_t(1 << 40))),
    "copy to freed memory": (INVALID_VALUE, lambda: copy(freed(), BUFFER, 64, TO_DEVICE)),
    "copy from freed memory": (INVALID_VALUE, lambda: copy(BUFFER, freed(), 64, FROM_DEVICE)),
    "copy from nothing known": (INVALID_VALUE, lambda: copy(BUFFER, WILD, 8, FROM_DEVICE)),
    "copy from beyond the end": (INVALID_VALUE, lambda: copy(BUFFER, device(1024), 4096, FROM_DEVICE)),
    "copy to reserved addresses": (INVALID_VALUE, lambda: copy(reserved(), BUFFER, 64, TO_DEVICE)),
    "copy to nowhere": (INVALID_VALUE, lambda: copy(NULL, device(), 64, FROM_DEVICE)),
    "copy in no direction": (INVALID_DIRECTION, lambda: copy(device(), BUFFER, 64, 7)),
    "copy of nothing": (0, lambda: copy(device(), NULL, 0, TO_DEVICE)),
    "copy on no stream": (
        INVALID_HANDLE,
        lambda: lib.cudaMemcpyAsync(device(), BUFFER, c_size_t(64), TO_DEVICE, WILD),
    ),
    "prefetch of device memory": (
        INVALID_VALUE,
        lambda: lib.cudaMemPrefetchAsync(device(), SOME, 0, NULL),
    ),
    "address of no symbol": (INVALID_SYMBOL, lambda: lib.cudaGetSymbolAddress(OUT, BUFFER)),
    # host memory
    "cudaHostRegister twice": (ALREADY_REGISTERED, registered_twice),
    "cudaHostRegister of no memory": (INVALID_VALUE, lambda: lib.cudaHostRegister(WILD, c_size_t(4096), 0)),
    "cudaHostUnregister of other memory": (NOT_REGISTERED, lambda: lib.cudaHostUnregister(BUFFER)),
    "device pointer of other memory": (INVALID_VALUE, lambda: lib.cudaHostGetDevicePointer(OUT, BUFFER, 0)),
    # virtual memory management
    "cuMemRelease of nothing": (INVALID_VALUE, lambda: lib.cuMemRelease(c_uint64(0))),
    "cuMemRelease twice": (INVALID_VALUE, released_twice),
    "cuMemMap of nothing": (INVALID_VALUE, lambda: map_at(reserved(), c_uint64(0))),
    "cuMemMap of nothing known": (INVALID_VALUE, lambda: map_at(reserved(), c_uint64(0xDEADBEEF))),
    "cuMemMap twice at one address": (INVALID_VALUE, lambda: mapped(twice=True)[0]),
    "cuMemMap of more than there is": (INVALID_VALUE, lambda: mapped(2)[0]),
    "cuMemMap at host memory": (
        INVALID_VALUE,
        lambda: leaves_host_memory(lambda start: map_at(start, physical()[1])),
    ),
    "cuMemUnmap of host memory": (
        INVALID_VALUE,
        lambda: leaves_host_memory(lambda start: lib.cuMemUnmap(start, c_size_t(PAGE))),
    ),
    "cuMemUnmap of half a mapping": (INVALID_VALUE, half_unmapped),
    "cuMemSetAccess of no mapping": (
        INVALID_VALUE,
        lambda: lib.cuMemSetAccess(reserved(), c_size_t(PAGE), (c_int * 3)(1, 0, 3), c_size_t(1)),
    ),
    "cuMemAddressFree of host memory": (
        INVALID_VALUE,
        lambda: leaves_host_memory(lambda start: lib.cuMemAddressFree(start, c_size_t(PAGE))),
    ),
    "cuMemAddressFree of another size": (
        INVALID_VALUE,
        lambda: lib.cuMemAddressFree(reserved(), ONE_PAGE),
    ),
    "cuMemAddressFree while mapped": (INVALID_VALUE, freed_while_mapped),
    "cuMemAddressReserve of nothing": (
        INVALID_VALUE,
        lambda: lib.cuMemAddressReserve(OUT, c_size_t(0), c_size_t(0), c_uint64(0), c_uint64(0)),
    ),
    "cuMemAddressReserve of too much": (
        OUT_OF_MEMORY,
        lambda: lib.cuMemAddressReserve(OUT, c_size_t(2**64 - PAGE), c_size_t(0), c_uint64(0), c_uint64(0)),
    ),
    "cuMemCreate on no device": (INVALID_DEVICE, lambda: physical(location_id=99)[0]),
    "cuMemCreate on a negative device": (INVALID_DEVICE, lambda: physical(location_id=-1)[0]),
    "cuMemCreate of no whole page": (INVALID_VALUE, lambda: physical(1)[0]),
    "properties of no handle": (
        INVALID_VALUE,
        lambda: lib.cuMemGetAllocationPropertiesFromHandle(byref(Properties()), c_uint64(0)),
    ),
    "handle of no mapping": (INVALID_VALUE, lambda: lib.cuMemRetainAllocationHandle(OUT, WILD)),
    "range of nothing known": (INVALID_VALUE, lambda: lib.cuMemGetAddressRange_v2(OUT, SIZE, WILD)),
    "attribute of nothing known": (INVALID_VALUE, lambda: lib.cuPointerGetAttribute(OUT, 9, WILD)),
    # devices, contexts, modules, kernels
    "cudaSetDevice of no device": (INVALID_DEVICE, lambda: lib.cudaSetDevice(99)),
    "cudaSetDevice below 0": (INVALID_DEVICE, lambda: lib.cudaSetDevice(-1)),
    "cudaGetDeviceCount to nowhere": (INVALID_VALUE, lambda: lib.cudaGetDeviceCount(NULL)),
    "cuCtxSetCurrent to no context": (INVALID_CONTEXT, lambda: lib.cuCtxSetCurrent(WILD)),
    "cuModuleUnload of no module": (INVALID_HANDLE, lambda: lib.cuModuleUnload(WILD)),
    "cuModuleGetFunction of no module": (INVALID_HANDLE, lambda: lib.cuModuleGetFunction(OUT, WILD, b"f")),
    "cuLaunchKernel of no function": (
        INVALID_HANDLE,
        lambda: lib.cuLaunchKernel(WILD, *ONES, NULL, NULL, NULL),
    ),
    "cudaFuncGetAttributes of nothing": (INVALID_FUNCTION, lambda: lib.cudaFuncGetAttributes(BUFFER, NULL)),
    "cuGetErrorString of no error": (INVALID_VALUE, lambda: lib.cuGetErrorString(12345, OUT)),
    # streams and events
    "cudaStreamDestroy twice": (
        INVALID_HANDLE,
        lambda: lib.cudaStreamDestroy(dropped("cudaStreamCreate", "cudaStreamDestroy")),
    ),
    "cudaStreamDestroy of the default one": (INVALID_HANDLE, lambda: lib.cudaStreamDestroy(NULL)),
    "cudaStreamSynchronize of no stream": (INVALID_HANDLE, lambda: lib.cudaStreamSynchronize(WILD)),
    "cudaEventDestroy twice": (
        INVALID_HANDLE,
        lambda: lib.cudaEventDestroy(dropped("cudaEventCreate", "cudaEventDestroy")),
    ),
    "cudaEventRecord of no event": (INVALID_HANDLE, lambda: lib.cudaEventRecord(WILD, NULL)),
    "cudaEventElapsedTime of events not recorded": (INVALID_HANDLE, unrecorded),
    "a stream for an event": (INVALID_HANDLE, lambda: lib.cudaEventQuery(made("cudaStreamCreate"))),
    # libraries
    "cublasDestroy twice": (
        BLAS_NOT_INITIALIZED,
        lambda: lib.cublasDestroy_v2(dropped("cublasCreate_v2", "cublasDestroy_v2")),
    ),
    "a product without a handle": (BLAS_NOT_INITIALIZED, lambda: lib.cublasSgemm_v2(NULL)),
    "cublasLtMatmul without a handle": (BLAS_NOT_INITIALIZED, lambda: lib.cublasLtMatmul(NULL)),
    "a convolution without a handle": (DNN_BAD_PARAM, lambda: lib.cudnnConvolutionForward(WILD)),
    "cudnnDestroy twice": (DNN_BAD_PARAM, lambda: lib.cudnnDestroy(dropped("cudnnCreate", "cudnnDestroy"))),
    "cudnn descriptor of nothing": (DNN_BAD_PARAM, lambda: lib.cudnnBackendFinalize(WILD)),
    "cusolverDnDestroy twice": (
        SOLVER_NOT_INITIALIZED,
        lambda: lib.cusolverDnDestroy(dropped("cusolverDnCreate", "cusolverDnDestroy")),
    ),
    "a decomposition without a handle": (SOLVER_NOT_INITIALIZED, lambda: lib.cusolverDnSgetrf(NULL)),
    "cusolver info of nothing": (SOLVER_INVALID_VALUE, lambda: lib.cusolverDnDestroySyevjInfo(WILD)),
    "cufftDestroy twice": (
        FFT_INVALID_PLAN,
        lambda: lib.cufftDestroy(dropped("cufftCreate", "cufftDestroy", c_int)),
    ),
    "a transform without a plan": (FFT_INVALID_PLAN, lambda: lib.cufftXtExec(77, NULL, NULL, 0)),
    "cusparseDestroy of nothing": (SPARSE_NOT_INITIALIZED, lambda: lib.cusparseDestroy(WILD)),
    "ncclCommDestroy of nothing known": (NCCL_INVALID_ARGUMENT, lambda: lib.ncclCommDestroy(WILD)),
    "device of no communicator": (NCCL_INVALID_ARGUMENT, lambda: of_communicator("ncclCommCuDevice")),
    "a collective without a communicator": (
        NCCL_INVALID_ARGUMENT,
        lambda: lib.ncclAllReduce(NULL, NULL, c_size_t(1), 7, 0, WILD, NULL),
    ),
    "NVML name of no card": (NVML_INVALID_ARGUMENT, lambda: nvml_name(WILD)),
    # what is there already and right
    "attributes of nothing known": (
        0,
        lambda: lib.cudaPointerGetAttributes(BUFFER, WILD),
    ),
}


def answer(call: Callable[[], int]) -> int | str:
    """What a call answers, in a process of its own; the signal it died of."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = call()
        os.write(writing, str(code).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    told = os.read(reading, 64).decode()
    os.close(reading)
    return int(told) if status == 0 else f"ended with {status}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: answer(call) for name, (_, call) in PROBES.items()}))
