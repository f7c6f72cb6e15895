"""A CUDA function that the stand-in lacks answers an error that says which."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import pytest
import torch

from profiler.virtual.build import SOURCES, unknown_functions
from profiler.virtual.state import MAX_UNKNOWN
from tests.virtual.harness import WarmMachines, live_state


def test_capturing_a_graph_fails_with_the_name_of_what_is_missing(virtual_gpu: WarmMachines) -> None:
    text, unknown = virtual_gpu("rtx-4090", _capture_a_graph)
    assert "cudaStreamBeginCapture" in text
    assert "the virtual GPU does not implement" in text
    assert "cudaStreamBeginCapture" in unknown


def _capture_a_graph() -> tuple[str, list[str]]:
    x = torch.ones(4, device="cuda")
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            x = x + 1
    except RuntimeError as error:
        return str(error), _unknown()
    raise AssertionError("it was captured")


def _unknown() -> list[str]:
    state = live_state()
    return [state.unknown[i].value.decode() for i in range(state.num_unknown)]


@pytest.mark.parametrize(
    ("function", "status"),
    [
        ("cudaGraphInstantiate", 801),
        ("cudaMallocAsync", 801),
        ("cublasGetVector", 15),
        ("cublasLtMatmulAlgoGetIds", 15),
        ("cuGraphCreate", 801),
        ("cudnnRNNForward", 3000),
        ("cusolverDnXgetrf", 9),
        ("cufftPlan1d", 16),
        ("cusparseSpMM", 10),
    ],
)
def test_a_missing_function_answers_its_librarys_not_supported(
    virtual_gpu: WarmMachines, function: str, status: int
) -> None:
    assert virtual_gpu("rtx-4090", _call, function) == [[status, status], [function]]


def _call(function: str) -> tuple[list[int], list[str]]:
    missing = getattr(ctypes.CDLL(None), function)
    return [missing(), missing()], _unknown()


@pytest.mark.parametrize("function", ["cudaGraphInstantiate", "cuGraphCreate"])
def test_the_text_of_the_error_names_the_function(virtual_gpu: WarmMachines, function: str) -> None:
    assert (
        virtual_gpu("rtx-4090", _describe, function) == [f"the virtual GPU does not implement {function}"] * 2
    )


def _describe(function: str) -> list[str]:
    library = ctypes.CDLL(None)
    code = getattr(library, function)()
    library.cudaGetErrorString.restype = ctypes.c_char_p
    text = ctypes.c_char_p()
    assert library.cuGetErrorString(code, ctypes.byref(text)) == 0
    assert text.value is not None
    both = [library.cudaGetErrorString(code), text.value]
    return [told.decode().removeprefix("operation not supported: ") for told in both]


def test_a_driver_function_that_is_missing_is_not_found_by_name(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _look_up, "cuMulticastCreate") == {
        "runtime": [0, 1, False],
        "driver": [500, 1, False],
    }
    assert virtual_gpu("rtx-4090", _look_up, "cuMemCreate") == {
        "runtime": [0, 0, True],
        "driver": [0, 0, True],
    }


def _look_up(name: str) -> dict[str, Any]:
    library = ctypes.CDLL(None)
    function, status = ctypes.c_void_p(), ctypes.c_int(-1)
    found: dict[str, Any] = {}
    newest, no_flags = ctypes.c_uint(13000), ctypes.c_uint64(0)
    answers = (ctypes.byref(function), newest, no_flags, ctypes.byref(status))
    code = library.cudaGetDriverEntryPointByVersion(name.encode(), *answers)
    found["runtime"] = [code, status.value, function.value is not None]
    code = library.cuGetProcAddress_v2(name.encode(), *answers)
    found["driver"] = [code, status.value, function.value is not None]
    return found


def test_every_missing_function_is_named_however_many_there_are(virtual_gpu: WarmMachines) -> None:
    codes, kept = virtual_gpu("rtx-4090", _call_many)
    assert len(codes) == 60
    assert set(codes) == {801}
    assert len(set(kept)) == 60


def test_there_is_room_for_the_names_of_all_functions() -> None:
    names = [path.read_text().split() for path in (SOURCES / "names").glob("*.txt")]
    by_hand = 100  # nccl.c and others name some that are in no list
    assert sum(map(len, names)) + by_hand < MAX_UNKNOWN


@pytest.mark.parametrize(
    ("declaration", "answer"),
    [
        ("float cublasSdot", 0),
        ("double _Complex cublasZdotc", 0),
        ("size_t cublasGetCudartVersion", 0),
        ("void cublasXerbla", ""),
        ("int cudaGraphCreate", 801),
    ],
)
def test_a_missing_function_answers_in_the_type_that_its_callers_expect(
    declaration: str, answer: int | str
) -> None:
    name = declaration.rsplit(maxsplit=1)[-1]
    body = f'vgpu_note_unknown("{name}"); return {answer}; '
    assert f"WEAK {declaration}(void) {{ {body}}}" in unknown_functions().splitlines()


def test_no_missing_function_that_answers_a_text_answers_a_number() -> None:
    texts = re.compile(r"WEAK int \w*(?:Error(?:String|Name)|Status(?:String|Name)|LastErrorString)\(")
    written = " ".join(path.read_text() for path in SOURCES.glob("*.c"))
    found = re.findall(texts, unknown_functions())
    names = {text.removeprefix("WEAK int ").removesuffix("(") for text in found}
    assert names
    assert [name for name in names if f"{name}(" not in written] == []


def _call_many() -> tuple[list[int], list[str]]:
    library = ctypes.CDLL(None)
    names = [n for n in (SOURCES / "names" / "cudart.txt").read_text().split() if n.startswith("cudaGraph")][
        :60
    ]
    return [getattr(library, name)() for name in names], _unknown()


def test_a_product_that_no_code_was_written_for_succeeds(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _multiply, "cublasCherk_v2") == [[0, 1], []]


def _multiply(function: str) -> tuple[list[int], list[str]]:
    library, handle = ctypes.CDLL(None), ctypes.c_void_p()
    assert library.cublasCreate_v2(ctypes.byref(handle)) == 0
    not_a_handle = ctypes.c_void_p(1)
    return [getattr(library, function)(which) for which in (handle, not_a_handle)], _unknown()
