"""Expandable segments run on the virtual card's memory mapping, and reserve other amounts than ordinary."""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.units import GIB, MIB
from tests.versions import needs
from tests.virtual.harness import WarmMachines, live_state

EXPANDABLE = "expandable_segments:True"
SAYS_FABRICS = needs(**{"nvidia-ml-py": "13"})
"""The structures that these tests ask with; 12.560 lacks the second of them."""


def test_expandable_segments_change_what_is_reserved_and_not_what_is_allocated(
    virtual_gpu: WarmMachines,
) -> None:
    ordinary = virtual_gpu("rtx-4090", _fragment)
    expandable = virtual_gpu("rtx-4090", _fragment, alloc_conf=EXPANDABLE)
    assert expandable["expandable"]
    assert not ordinary["expandable"]
    assert expandable["allocated"] == ordinary["allocated"]
    assert expandable["reserved"] < ordinary["reserved"]
    for seen in (ordinary, expandable):
        assert seen["held"] == seen["reserved"]
        assert seen["after_empty_cache"] == [0, 0]


def _fragment() -> dict[str, Any]:
    """Sizes that grow from step to step, as sequence lengths do: ordinary segments cannot be joined.

    All are whole pages: up to 1 MiB that an ordinary segment has left over stays with its tensor, and counts.
    """
    allocated = []
    for step in range(8):
        tensors = [torch.empty((12 + 4 * step) * MIB, dtype=torch.uint8, device="cuda") for _ in range(4)]
        allocated.append(torch.cuda.memory_allocated())
        del tensors
    seen = {
        "expandable": all(segment["is_expandable"] for segment in torch.cuda.memory_snapshot()),
        "allocated": [*allocated, torch.cuda.max_memory_allocated()],
        "reserved": torch.cuda.memory_reserved(),
        "held": live_state().devices[0].held_bytes,
    }
    torch.cuda.empty_cache()
    return {**seen, "after_empty_cache": [torch.cuda.memory_reserved(), live_state().devices[0].held_bytes]}


def test_expandable_segments_run_out_of_the_cards_memory(virtual_gpu: WarmMachines) -> None:
    text, held = virtual_gpu(
        "rtx-4090", _overfill, total_bytes=4 * GIB, context_bytes=256 * MIB, alloc_conf=EXPANDABLE
    )
    assert "GPU 0 has a total capacity of 4.00 GiB" in text
    assert 3 * GIB <= held <= 4 * GIB - 256 * MIB


def _overfill() -> tuple[str, int]:
    tensors: list[torch.Tensor] = []
    try:
        tensors.extend(torch.empty(GIB, dtype=torch.uint8, device="cuda") for _ in range(5))
    except torch.OutOfMemoryError as error:
        return str(error), live_state().devices[0].held_bytes
    raise AssertionError("they fitted")


def test_a_training_step_runs_on_expandable_segments(virtual_gpu: WarmMachines) -> None:
    ordinary = virtual_gpu("a100-80gb", _train)
    expandable = virtual_gpu("a100-80gb", _train, alloc_conf=EXPANDABLE)
    assert expandable["allocated"] == ordinary["allocated"]
    assert expandable["reserved"] != ordinary["reserved"]


def _train() -> dict[str, int]:
    model = torch.nn.Sequential(*[torch.nn.Linear(2048, 2048) for _ in range(3)]).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.randn(512, 2048, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


def test_torch_asks_for_a_fabric_and_is_answered(virtual_gpu: WarmMachines) -> None:
    # up to 2.13 it raises where the answer is an error, from 2.14 on it warns
    assert virtual_gpu("rtx-4090", _warnings_of_an_allocation, alloc_conf=EXPANDABLE) == []


def _warnings_of_an_allocation() -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.empty(GIB, dtype=torch.uint8, device="cuda")
    return [str(warning.message) for warning in told]


@SAYS_FABRICS
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_card_is_in_no_fabric_and_says_so_without_an_error(version: int, virtual_gpu: WarmMachines) -> None:
    code, told, beyond = virtual_gpu("h100-80gb", _ask_for_the_fabric, version)
    assert code == 0
    assert told == {"clusterUuid": [0] * 16, "status": 0, "cliqueId": 0, "state": 0}
    assert beyond == "ff" * 8


@SAYS_FABRICS
@pytest.mark.parametrize("written", [1, 0x02000028, 0x04000024])
def test_a_fabrics_structure_of_another_version_is_refused(written: int, virtual_gpu: WarmMachines) -> None:
    import pynvml

    code, told, _ = virtual_gpu("h100-80gb", _ask_for_the_fabric, 2, written)
    assert code == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
    assert told["clusterUuid"] == [0xFF] * 16


def _ask_for_the_fabric(version: int, written: int | None = None) -> tuple[int, dict[str, Any], str]:
    """The code, what all versions tell, and what lies beyond the structure, which was all ones before."""
    import pynvml

    kind = {
        1: pynvml.c_nvmlGpuFabricInfo_t,
        2: pynvml.c_nvmlGpuFabricInfo_v2_t,
        3: pynvml.c_nvmlGpuFabricInfo_v3_t,
    }[version]
    memory = ctypes.create_string_buffer(b"\xff" * (ctypes.sizeof(kind) + 8))
    info = kind.from_buffer(memory)
    if version > 1:
        info.version = written or ctypes.sizeof(kind) | version << 24
    pynvml.nvmlInit()
    library = ctypes.CDLL("libnvidia-ml.so.1")
    name = "nvmlDeviceGetGpuFabricInfo" + ("" if version == 1 else "V")
    code = getattr(library, name)(pynvml.nvmlDeviceGetHandleByIndex(0), ctypes.byref(info))
    told = {
        "clusterUuid": list(info.clusterUuid),
        "status": info.status,
        "cliqueId": info.cliqueId,
        "state": info.state,
    }
    return code, told, bytes(memory)[ctypes.sizeof(kind) : ctypes.sizeof(kind) + 8].hex()


@pytest.mark.parametrize("alloc_conf", ["", EXPANDABLE])
def test_the_card_always_holds_what_the_allocator_has_reserved(
    virtual_gpu: WarmMachines, alloc_conf: str
) -> None:
    assert virtual_gpu("rtx-4090", _allocate_and_free_at_random, total_bytes=GIB, alloc_conf=alloc_conf) > 100


def _allocate_and_free_at_random() -> int:
    state = live_state()
    num_runs = 0
    # Sizes around the allocator's own borders, and some that make the card overflow; or which one to free.
    sizes = st.one_of(st.integers(1, 2 * MIB), st.integers(8 * MIB, 24 * MIB), st.integers(1, 400 * MIB))
    steps = st.one_of(st.tuples(st.just("allocate"), sizes), st.tuples(st.just("free"), st.integers(0, 30)))

    @settings(
        max_examples=150,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(program=st.lists(steps, max_size=25), empties=st.booleans())
    def run(program: list[tuple[str, int]], empties: bool) -> None:
        nonlocal num_runs
        num_runs += 1
        live: list[torch.Tensor] = []
        for step, number in program:
            if step == "free" and live:
                del live[number % len(live)]
            elif step == "allocate":
                try:
                    live.append(torch.empty(number, dtype=torch.uint8, device="cuda"))
                except torch.OutOfMemoryError:
                    live.clear()
            assert state.devices[0].held_bytes == torch.cuda.memory_reserved()
            assert state.processes[0].held_bytes[0] == torch.cuda.memory_reserved()
        live.clear()
        if empties:
            torch.cuda.empty_cache()
            assert state.devices[0].held_bytes == 0

    run()
    return num_runs
