"""The caching allocator over the virtual card asks for, and is given, what it is on a real one."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch

from profiler.units import GIB, KIB, MIB
from tests.versions import needs, since
from tests.virtual.harness import FreshMachines, WarmMachines, live_state

BLACKWELL_BYTES = 32 * MIB if since(torch="2.12") else 8_519_680
"""cuBLAS's workspace from compute capability 10 on: of older cards until PyTorch's pull request 175344."""


@pytest.mark.parametrize(
    ("num_bytes", "segment_bytes"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (5 * GIB + 1, 5 * GIB + 2 * MIB),
    ],
)
def test_a_tensor_takes_the_segment_that_pytorch_takes_for_its_size(
    virtual_gpu: WarmMachines, num_bytes: int, segment_bytes: int
) -> None:
    allocated = -(-num_bytes // 512) * 512
    seen = virtual_gpu("rtx-4090", _allocate, num_bytes)
    assert seen == {"allocated": allocated, "reserved": segment_bytes, "held": segment_bytes, "empty": 0}


def _allocate(num_bytes: int) -> dict[str, int]:
    tensor = torch.empty(num_bytes, dtype=torch.uint8, device="cuda")
    seen = {
        "allocated": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
        "held": live_state().devices[0].held_bytes,
    }
    del tensor
    torch.cuda.empty_cache()
    return {**seen, "empty": live_state().devices[0].held_bytes}


def test_addresses_ascend_and_the_lowest_hole_that_fits_is_filled_first(virtual_gpu: WarmMachines) -> None:
    ascending, reused = virtual_gpu("rtx-4090", _punch_holes)
    # Sizes in MiB: 2, 4, 2, 6, 2, 2. The second and fourth are freed, then 6, 2, 2 and 2 asked for.
    assert ascending == [0, 2, 6, 8, 14, 16]
    assert reused == [8, 2, 4, 18]


def _punch_holes() -> tuple[list[float], list[float]]:
    library = ctypes.CDLL(None)

    def allocate(mib: int) -> int:
        pointer = ctypes.c_void_p()
        assert library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(mib * MIB)) == 0
        assert pointer.value is not None
        return pointer.value

    first = [allocate(mib) for mib in (2, 4, 2, 6, 2, 2)]
    for index in (1, 3):
        assert library.cudaFree(ctypes.c_void_p(first[index])) == 0
    second = [allocate(mib) for mib in (6, 2, 2, 2)]
    base = first[0]
    assert base % (2 * MIB) == 0
    return [(p - base) / MIB for p in first], [(p - base) / MIB for p in second]


def test_the_same_program_gives_the_same_segments_blocks_and_events_in_another_process(
    virtual_gpu: WarmMachines, fresh_gpu: FreshMachines
) -> None:
    first = virtual_gpu("a100-80gb", _train_and_look)
    assert len(first["segments"]) > 3
    assert {"alloc", "free_completed", "segment_alloc"} <= {event[0] for event in first["events"]}
    assert virtual_gpu("a100-80gb", _train_and_look) == first
    assert fresh_gpu("a100-80gb", _train_and_look) == first


def _train_and_look() -> dict[str, Any]:
    torch.cuda.memory._record_memory_history(stacks="python")
    model = torch.nn.Sequential(*[torch.nn.Linear(1536, 1536) for _ in range(4)]).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    for rows in (64, 4096, 700):
        torch.nn.functional.gelu(model(torch.randn(rows, 1536, device="cuda"))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    snapshot = torch.cuda.memory._snapshot()
    base = min(segment["address"] for segment in snapshot["segments"])
    return {
        "segments": [
            [
                s["address"] - base,
                s["total_size"],
                [[b["address"] - base, b["size"], b["state"]] for b in s["blocks"]],
            ]
            for s in snapshot["segments"]
        ],
        "events": [
            [event["action"], event["addr"] - base, event["size"]]
            for event in snapshot["device_traces"][0]
            if event["action"]
            in {"alloc", "free_requested", "free_completed", "segment_alloc", "segment_free"}
        ],
    }


@pytest.mark.parametrize(
    ("gpu_id", "workspace_bytes"),
    [
        ("rtx-3090", 8_519_680),
        ("a100-80gb", 8_519_680),
        ("rtx-4090", 8_519_680),
        ("h100-80gb", 32 * MIB),
        ("b200", BLACKWELL_BYTES),
        ("rtx-5090", BLACKWELL_BYTES),
    ],
)
def test_every_thread_that_multiplies_has_a_cublas_workspace(
    virtual_gpu: WarmMachines, gpu_id: str, workspace_bytes: int
) -> None:
    # One for the thread of the forward pass, and one for autograd's.
    assert virtual_gpu(gpu_id, _multiply) == [0, workspace_bytes, 2 * workspace_bytes, 2 * workspace_bytes, 0]


def _multiply() -> list[int]:
    side = 16
    matrix = torch.zeros(side, side, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    before = torch.cuda.memory_allocated()
    seen = [0]
    product = matrix @ matrix
    seen.append(torch.cuda.memory_allocated() - before - product.nbytes)
    gradient = torch.ones_like(product)
    product.backward(gradient)
    own = product.nbytes + gradient.nbytes + matrix.nbytes
    seen.append(torch.cuda.memory_allocated() - before - own)
    del product, gradient
    matrix.grad = None
    product = matrix @ matrix  # the workspace is there already
    seen.append(torch.cuda.memory_allocated() - before - product.nbytes)
    torch._C._cuda_clearCublasWorkspaces()
    return [*seen, torch.cuda.memory_allocated() - before - product.nbytes]


@needs(torch="2.11")
def test_a_large_segment_size_that_was_set_is_the_allocators(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _allocate, 3 * MIB, alloc_conf="large_segment_size_mb:32")
    assert (seen["allocated"], seen["held"]) == (3 * MIB, 32 * MIB)


def test_roundup_of_sizes_that_was_set_is_the_allocators(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _allocate, 3 * MIB + 512, alloc_conf="roundup_power2_divisions:4")
    assert seen["allocated"] == 3 * MIB + 512 * KIB
