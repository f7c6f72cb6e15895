"""A virtual card is as full as a real one would be, and everyone who asks is told the same."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from profiler.errors import MachineFaultError
from profiler.hardware.catalogue import find_gpu
from profiler.units import GIB, MIB
from tests.virtual.harness import WarmMachines, live_state

# Asks NVML, in a process that has no CUDA context of its own.
ASK_NVML = """
import json, pynvml
pynvml.nvmlInit()
card = pynvml.nvmlDeviceGetHandleByIndex(0)
memory = pynvml.nvmlDeviceGetMemoryInfo(card, pynvml.nvmlMemory_v2)
processes = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
print(json.dumps([memory.total, memory.used, memory.free, {p.pid: p.usedGpuMemory for p in processes}]))
"""

# Holds memory through the CUDA runtime until it is killed.
HOLD = """
import ctypes, sys, time
pointer = ctypes.c_void_p()
assert ctypes.CDLL(None).cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(int(sys.argv[1]))) == 0
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("gpu_id", ["rtx-3060-12gb", "rtx-4090", "b200"])
def test_more_than_the_card_has_is_out_of_memory_in_torchs_own_words(
    virtual_gpu: WarmMachines, gpu_id: str
) -> None:
    gpu = find_gpu(gpu_id)
    text = virtual_gpu(gpu_id, _ask_for, gpu.total_bytes)
    assert f"Tried to allocate {gpu.total_bytes / GIB:.2f} GiB" in text
    assert f"GPU 0 has a total capacity of {gpu.total_bytes / GIB:.2f} GiB" in text
    assert f"of which {(gpu.total_bytes - gpu.context_bytes) / GIB:.2f} GiB is free" in text


def _ask_for(num_bytes: int) -> str:
    try:
        torch.empty(num_bytes, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError as error:
        return str(error)
    raise AssertionError("it fitted")


def test_a_capacity_that_was_asked_for_is_the_cards(virtual_gpu: WarmMachines) -> None:
    text = virtual_gpu("rtx-4090", _ask_for, 2048 * GIB, total_bytes=2048 * GIB)
    assert "GPU 0 has a total capacity of 2048.00 GiB" in text


def test_two_tebibytes_fit_a_card_that_has_more(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _hold, 2048 * GIB, total_bytes=2049 * GIB) == 2048 * GIB


def _hold(num_bytes: int) -> int:
    held = torch.empty(num_bytes, dtype=torch.uint8, device="cuda")
    return held.nbytes


def test_the_last_page_can_be_had_and_the_next_one_not(virtual_gpu: WarmMachines) -> None:
    codes, free_bytes, refusals = virtual_gpu(
        "rtx-4090", _fill_to_the_brim, total_bytes=2 * GIB, context_bytes=300 * MIB
    )
    assert codes == [0, 2]  # cudaErrorMemoryAllocation
    assert free_bytes == 0
    assert refusals == 1


def _fill_to_the_brim() -> tuple[list[int], int, int]:
    free_bytes, _ = torch.cuda.mem_get_info()
    library = ctypes.CDLL(None)
    codes = [library.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(n)) for n in (free_bytes, 1)]
    assert library.cudaGetLastError() == 2
    assert library.cudaGetLastError() == 0  # reading it clears it
    return codes, torch.cuda.mem_get_info()[0], live_state().devices[0].num_refusals


def test_this_machine_without_memory_is_no_full_card(virtual_gpu: WarmMachines) -> None:
    said, num_refusals = virtual_gpu("rtx-4090", _ask_without_memory_of_the_host)
    assert said == "the job could not be run: the host has no memory left"
    assert num_refusals == 0


def _ask_without_memory_of_the_host() -> tuple[str, int]:
    from profiler.execute.worker import _refuse_fault

    taken_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken_bytes + 64 * MIB, resource.RLIM_INFINITY))
    state = live_state()
    try:
        torch.empty(GIB, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError as error:
        with pytest.raises(MachineFaultError) as refused:
            _refuse_fault(error, state)
        return refused.value.message, state.devices[0].num_refusals
    return "it could", state.devices[0].num_refusals


def test_cuda_nvml_and_the_shared_state_agree_on_free_and_used(virtual_gpu: WarmMachines) -> None:
    gpu = find_gpu("a100-40gb")
    seen = virtual_gpu("a100-40gb", _ask_everyone, other_bytes=3 * GIB)
    used = gpu.context_bytes + 3 * GIB + 20 * MIB + 66 * MIB
    own = {"own": used - 3 * GIB, "4242": 3 * GIB}
    assert seen["cuda"] == [gpu.total_bytes - used, gpu.total_bytes]
    assert seen["state"] == [86 * MIB, used, used]
    assert seen["here"] == seen["elsewhere"] == [gpu.nvml_total_bytes, used, gpu.total_bytes - used, own]


def _ask_everyone() -> dict[str, Any]:
    tensors = [torch.empty(n * MIB, dtype=torch.uint8, device="cuda") for n in (5, 65)]
    assert sum(tensor.nbytes for tensor in tensors) == 70 * MIB
    card = live_state().devices[0]
    answers: dict[str, Any] = {
        "cuda": torch.cuda.mem_get_info(),
        "state": [card.held_bytes, card.used_bytes, card.used_peak_bytes],
        "here": _ask_nvml_here(),
        "elsewhere": _ask_nvml_elsewhere(),
    }
    for answer in (answers["here"], answers["elsewhere"]):
        answer[3] = {"own" if int(pid) == os.getpid() else str(pid): used for pid, used in answer[3].items()}
    return answers


def _ask_nvml_here() -> list[Any]:
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(card, pynvml.nvmlMemory_v2)
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
    return [memory.total, memory.used, memory.free, {p.pid: p.usedGpuMemory for p in processes}]


def _ask_nvml_elsewhere() -> list[Any]:
    answer: list[Any] = json.loads(subprocess.check_output([sys.executable, "-c", ASK_NVML], text=True))
    return answer


def test_memory_of_another_process_is_missing_here_until_it_is_killed(virtual_gpu: WarmMachines) -> None:
    gpu = find_gpu("rtx-4090")
    before, during, after = virtual_gpu("rtx-4090", _watch_a_process_die)
    assert before == gpu.total_bytes - gpu.context_bytes
    assert during == before - gpu.context_bytes - 8 * GIB
    assert after == before


def _watch_a_process_die() -> list[int]:
    seen = [torch.cuda.mem_get_info()[0]]
    command = [sys.executable, "-c", HOLD, str(8 * GIB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        seen.append(torch.cuda.mem_get_info()[0])
        process.send_signal(signal.SIGKILL)
    return [*seen, torch.cuda.mem_get_info()[0]]


def test_an_allocation_takes_what_a_killed_process_held(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _fill_after_a_death, total_bytes=4 * GIB, context_bytes=0) == [3 * GIB, 0]


def _fill_after_a_death() -> list[int]:
    torch.cuda.init()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(3 * GIB)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    held = torch.empty(
        3 * GIB, dtype=torch.uint8, device="cuda"
    )  # nothing asked for the free memory in between
    return [held.nbytes, torch.cuda.memory_stats()["num_alloc_retries"]]


def test_cached_blocks_are_given_up_before_memory_runs_out(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _need_the_cached_blocks, total_bytes=4 * GIB, context_bytes=256 * MIB)
    assert seen == {
        "retries": 1,
        "ooms": 0,
        "reserved": 3 * GIB,
        "held": 3 * GIB,
        "peak": 3 * GIB + 256 * MIB,
    }


def _need_the_cached_blocks() -> dict[str, int]:
    small = [torch.empty(GIB, dtype=torch.uint8, device="cuda") for _ in range(3)]
    small.clear()
    large = torch.empty(3 * GIB, dtype=torch.uint8, device="cuda")
    assert large.is_cuda
    stats, card = torch.cuda.memory_stats(), live_state().devices[0]
    return {
        "retries": stats["num_alloc_retries"],
        "ooms": stats["num_ooms"],
        "reserved": torch.cuda.memory_reserved(),
        "held": card.held_bytes,
        "peak": card.used_peak_bytes,
    }


def test_out_of_memory_is_raised_after_one_retry_and_leaves_a_working_card(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _fail_and_go_on, total_bytes=2 * GIB, context_bytes=0) == [1, 1, GIB]


def _fail_and_go_on() -> list[int]:
    _ask_for(3 * GIB)
    stats = torch.cuda.memory_stats()
    held = torch.empty(GIB, dtype=torch.uint8, device="cuda")
    return [stats["num_alloc_retries"], stats["num_ooms"], held.nbytes]


def test_a_card_too_full_for_a_context_is_out_of_memory(virtual_gpu: WarmMachines) -> None:
    text = virtual_gpu(
        "rtx-4090", _start_on_a_full_card, total_bytes=4 * GIB, context_bytes=GIB, other_bytes=3 * GIB + 1
    )
    assert "out of memory" in text


def _start_on_a_full_card() -> str:
    try:
        torch.empty(1, device="cuda")
    except RuntimeError as error:
        return str(error)
    raise AssertionError("a context was made")


def test_a_torch_process_that_ends_leaves_nothing_on_the_card(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _end_another_torch) == [0, 0]


def _end_another_torch() -> list[int]:
    script = "import torch; torch.empty(1 << 30, dtype=torch.uint8, device='cuda')"
    subprocess.run([sys.executable, "-c", script], check=True)
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    return [
        pynvml.nvmlDeviceGetMemoryInfo(card, pynvml.nvmlMemory_v2).used,
        len(pynvml.nvmlDeviceGetComputeRunningProcesses(card)),
    ]


def test_a_card_that_others_hold_whole_has_nothing_free(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _ask_the_driver, total_bytes=4 * GIB, other_bytes=4 * GIB + 1)
    assert seen == [0, 4 * GIB]


def _ask_the_driver() -> list[int]:
    free, total = ctypes.c_size_t(1), ctypes.c_size_t(1)
    assert ctypes.CDLL(None).cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return [free.value, total.value]
