"""Decompositions and transforms run on the virtual card, and say whose workspace is not known."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import linalg

from profiler.execute.worker import _virtual_notes
from profiler.virtual.build import NOT_SUPPORTED
from profiler.virtual.values import TrueValues
from tests.versions import since
from tests.virtual.following import follow_text, needs_the_library
from tests.virtual.harness import WarmMachines, live_state
from tests.virtual.probe import cuda_include_directories

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Shape = tuple[int, ...]

TALL, SQUARE, MANY = (160, 96), (96, 96), (32, 48, 48)
FLOAT, COMPLEX, INFO = 4, 8, 4  # bytes of one
POISON = b"\xa5"


@dataclass(frozen=True)
class Case:
    """A call on a matrix; the shapes of what it gives, and buffers that torch takes for it, in bytes."""

    shape: Shape
    call: Callable[[torch.Tensor], Any]
    shapes: Sequence[Shape]
    buffers: Sequence[int]


def _svd(**settings: Any) -> Case:
    """Of a copy, into U, S and V; a word on how it went."""
    return Case(
        TALL,
        lambda x: linalg.svd(x, full_matrices=False, **settings),
        [TALL, (96,), SQUARE],
        [FLOAT * 160 * 96, FLOAT * 160 * 96, FLOAT * 96, FLOAT * 96 * 96, INFO],
    )


DECOMPOSITIONS = {
    "svd": _svd(),
    "svd by gesvd": _svd(driver="gesvd"),
    "svd by gesvdj": _svd(driver="gesvdj"),
    "svd by gesvda": _svd(driver="gesvda"),
    "svd of many": Case(MANY, linalg.svd, [MANY, (32, 48), MANY], [INFO * 32]),
    "singular values": Case(TALL, linalg.svdvals, [(96,)], [FLOAT * 96, INFO]),
    "qr": Case(TALL, linalg.qr, [TALL, SQUARE], [FLOAT * 160 * 96, FLOAT * 96 * 96, FLOAT * 96, INFO, INFO]),
    "cholesky": Case(SQUARE, linalg.cholesky, [SQUARE], [FLOAT * 96 * 96, INFO]),
    "cholesky of many": Case(MANY, linalg.cholesky, [MANY], [FLOAT * 32 * 48 * 48, INFO * 32]),
    "eigh": Case(SQUARE, linalg.eigh, [(96,), SQUARE], [FLOAT * 96, FLOAT * 96 * 96, INFO]),
    "eigh of many": Case(MANY, linalg.eigh, [(32, 48), MANY], [FLOAT * 32 * 48, FLOAT * 32 * 48 * 48]),
    "inv": Case(SQUARE, linalg.inv, [SQUARE], [FLOAT * 96 * 96, FLOAT * 96 * 96, INFO]),
    "solve": Case(SQUARE, lambda x: linalg.solve(x, x[:, :8]), [(96, 8)], [FLOAT * 96 * 8, INFO]),
    "lstsq": Case(TALL, lambda x: linalg.lstsq(x, x[:, :8])[0], [(96, 8)], [FLOAT * 160 * 8, FLOAT * 96]),
    "qr of many": Case(MANY, linalg.qr, [MANY, MANY], [FLOAT * 32 * 48 * 48, FLOAT * 32 * 48]),
    # By MAGMA on the host in torch 2.4, by cuSOLVER on the card in 2.14 (pytorch/pytorch#166715).
    "eig": Case(
        SQUARE,
        lambda x: linalg.eig(x)[0],
        [(96,)],
        [COMPLEX * 96, COMPLEX * 96 * 96, *([INFO] if since(torch="2.10") else [])],
    ),
    "complex singular values": Case(
        TALL, lambda x: linalg.svdvals(x.to(torch.complex64)), [(96,)], [COMPLEX * 160 * 96, FLOAT * 96]
    ),
}

# Of many small ones cuBLAS and MAGMA, which is part of torch, work on all at once.
AT_ONCE = {
    "inv of many": Case(MANY, linalg.inv, [MANY], [FLOAT * 32 * 48 * 48, INFO * 32]),
    "solve of a few": Case((4, 8, 8), lambda x: linalg.solve(x, x), [(4, 8, 8)], [INFO * 4]),
    "solve of many": Case(MANY, lambda x: linalg.solve(x, x), [MANY], [INFO * 32]),
    "lstsq of many": Case(MANY, lambda x: linalg.lstsq(x, x)[0], [MANY], [INFO * 32]),
}

IMAGES, HALF_IMAGES = (4, 64, 50), (4, 64, 26)
SPECTRUM, HALF_SPECTRUM = COMPLEX * 4 * 64 * 50, COMPLEX * 4 * 64 * 26
TRANSFORMS = {
    "fft": Case(IMAGES, torch.fft.fft, [IMAGES], [SPECTRUM]),
    "rfft": Case(IMAGES, torch.fft.rfft, [HALF_IMAGES], [HALF_SPECTRUM]),
    "rfft and back": Case(
        IMAGES, lambda x: torch.fft.irfft(torch.fft.rfft(x)), [IMAGES], [HALF_SPECTRUM, FLOAT * 4 * 64 * 50]
    ),
    "fft2": Case(IMAGES, torch.fft.fft2, [IMAGES], [SPECTRUM]),
    "ifft2": Case(IMAGES, torch.fft.ifft2, [IMAGES], [SPECTRUM]),
}
CASES = DECOMPOSITIONS | AT_ONCE | TRANSFORMS


@pytest.mark.parametrize("name", CASES)
def test_it_runs_forward_and_backward_with_the_buffers_torch_takes(
    virtual_gpu: WarmMachines, name: str
) -> None:
    case, seen = CASES[name], virtual_gpu("rtx-4090", _run, name)
    assert seen["shapes"] == [list(shape) for shape in case.shapes]
    assert not Counter(case.buffers) - Counter(seen["allocated"])
    assert seen["gradient"] == list(case.shape)
    is_on_card = name in DECOMPOSITIONS and (name != "eig" or since(torch="2.10"))
    assert (seen["has cusolver run"], seen["has cufft run"]) == (is_on_card, name in TRANSFORMS)
    assert (seen["unknown functions"], seen["decisions"]) == ([], {})


def _run(name: str) -> dict[str, Any]:
    case = CASES[name]
    with TrueValues() as values:
        x = torch.randn(case.shape, device="cuda", requires_grad=True)
        torch.cuda.memory._record_memory_history(max_entries=10_000, stacks="python", context=None)
        out = case.call(x)
        allocated = _allocated()
        made = [out] if isinstance(out, torch.Tensor) else list(out)
        ran = live_state()
        after_forward = ran.cusolver_calls, ran.cufft_calls
        torch.stack([t.abs().sum() for t in made]).sum().backward()
    assert x.grad is not None
    return {
        "shapes": [list(t.shape) for t in made],
        "allocated": allocated,
        "gradient": list(x.grad.shape),
        "has cusolver run": after_forward[0] > 0,
        "has cufft run": after_forward[1] > 0,
        "unknown functions": [ran.unknown[i].value.decode() for i in range(ran.num_unknown)],
        "decisions": dict(values.unknown_reads.decisions),
    }


def _allocated() -> list[int]:
    events = torch.cuda.memory._snapshot()["device_traces"][0]
    return [event["size"] for event in events if event["action"] == "alloc"]


def test_an_orthogonal_start_takes_a_decomposition(virtual_gpu: WarmMachines) -> None:
    allocated, calls = virtual_gpu("rtx-4090", _start_orthogonal)
    assert allocated.count(FLOAT * 160 * 96) >= 2  # what is drawn, and the copy that is decomposed
    assert FLOAT * 96 * 96 in allocated
    assert calls > 0


def _start_orthogonal() -> tuple[list[int], int]:
    with TrueValues():
        weight = torch.empty(TALL, device="cuda")
        torch.cuda.memory._record_memory_history(max_entries=10_000, stacks="python", context=None)
        torch.nn.init.orthogonal_(weight)
    return _allocated(), live_state().cusolver_calls


def test_a_record_names_the_libraries_whose_workspace_it_leaves_out(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _notes_one_after_another) == [
        [],
        [_note_on("cuSOLVER")],
        [_note_on("cuSOLVER"), _note_on("cuFFT")],
        [_note_on("cuDNN"), _note_on("cuSOLVER"), _note_on("cuFFT")],
    ]


def _notes_one_after_another() -> list[list[str]]:
    x = torch.zeros(1, 1, 16, 16, device="cuda")
    notes = [_virtual_notes(live_state())]
    for call in (linalg.inv, torch.fft.fft, lambda x: torch.conv2d(x, x)):
        call(x)
        notes.append(_virtual_notes(live_state()))
    return notes


def test_what_the_host_is_told_lies_where_nvidias_headers_say(virtual_gpu: WarmMachines) -> None:
    """Sizes of workspaces, and whether arguments were right: zeros of that width, and nothing beside."""
    told = _written_for_the_host()
    found = virtual_gpu("rtx-4090", _ask, told)
    answered = {name: values for name, (code, values) in found.items() if code == 0}
    assert answered == {name: [_zero_of(width) for width in told[name][1].values()] for name in answered}
    assert len(answered) > 70
    assert {code for code, _ in found.values()} == {0, NOT_SUPPORTED["cusolver"]}


def _written_for_the_host() -> dict[str, tuple[int, dict[int, int]]]:
    """Of each function its number of parameters, and the places and widths of what it writes for the host."""
    functions = {
        "cusolverDn.h": (
            r"cusolverDn\w+_bufferSize",
            r"(int|size_t) ?\* ?(?:[lL]work|workspaceInBytesOn\w+)",
        ),
        "cublas_api.h": (r"cublas[SDCZ](?:geqrf|gels|getrs)Batched", r"(int) ?\* ?info"),
        "cufftXt.h": (r"cufftXtMakePlanMany", r"(size_t) ?\* ?workSize"),
    }
    widths = {"int": ctypes.sizeof(ctypes.c_int), "size_t": ctypes.sizeof(ctypes.c_size_t)}
    told = {}
    for header, (names, answers) in functions.items():
        (path,) = {path for path in (d / header for d in cuda_include_directories()) if path.is_file()}
        for name, inside in re.findall(rf"\b({names})\s*\(([^)]*)\)", path.read_text()):
            parameters = [" ".join(parameter.split()) for parameter in inside.split(",")]
            matches = [re.fullmatch(answers, parameter) for parameter in parameters]
            places = {at: widths[match[1]] for at, match in enumerate(matches) if match}
            if places:
                told[name] = len(parameters), places
    return told


def _ask(told: dict[str, tuple[int, dict[str, int]]]) -> dict[str, tuple[int, list[str]]]:
    """What each function returns, and the 16 poisoned bytes at each place that it may write to."""
    library = ctypes.CDLL(None)
    handles = {"cusolver": ctypes.c_void_p(), "cublas": ctypes.c_void_p(), "cufft": ctypes.c_int()}
    for prefix, create in (("cusolver", "DnCreate"), ("cublas", "Create_v2"), ("cufft", "Create")):
        assert getattr(library, prefix + create)(ctypes.byref(handles[prefix])) == 0
    found = {}
    for name, (count, places) in told.items():
        poisoned = {int(at): ctypes.create_string_buffer(POISON * 16, 16) for at in places}
        (handle,) = (handle for prefix, handle in handles.items() if name.startswith(prefix))
        arguments = [handle, *(poisoned.get(at, ctypes.c_void_p()) for at in range(1, count))]
        found[name] = getattr(library, name)(*arguments), [b.raw.hex() for b in poisoned.values()]
    return found


def _zero_of(width: int) -> str:
    return (bytes(width) + POISON * (16 - width)).hex()


@needs_the_library
def test_a_followed_script_names_them_too(tmp_path: Path) -> None:
    text = """
        import torch
        x = torch.zeros(64, 64, device="cuda")
        torch.linalg.svd(x)
        torch.fft.fft(x)
    """
    result = follow_text(tmp_path, text)
    assert result.exit_code == 0
    assert result.unknown_functions == ()
    assert result.notes == (_note_on("cuSOLVER"), _note_on("cuFFT"))


def _note_on(library: str) -> str:
    return f"{library} ran: which workspace it would take of the card's memory is not known and left out"
