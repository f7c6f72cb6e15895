"""What torch sees of a virtual card is what the catalogue says of the real one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from profiler.hardware.catalogue import load_catalogue
from profiler.units import MIB
from tests.versions import since
from tests.virtual.harness import WarmMachines, live_state


@pytest.mark.parametrize("gpu_id", load_catalogue())
def test_torch_sees_the_card_of_the_catalogue(virtual_gpu: WarmMachines, gpu_id: str) -> None:
    gpu = load_catalogue()[gpu_id]
    seen = virtual_gpu(gpu_id, _look)
    untold = {name for name, value in seen.items() if value is None}
    assert not untold or not since(torch="2.9")  # torch 2.4 does not tell all of it, 2.14 does
    expected = {
        "count": 1,
        "name": gpu.name,
        "capability": list(gpu.compute_capability),
        "num_sms": gpu.num_sms,
        "total_bytes": gpu.total_bytes,
        "l2_cache_bytes": gpu.l2_cache_bytes or 0,
        "shared_memory_per_block_optin_bytes": gpu.max_shared_memory_per_block_optin_bytes,
        "shared_memory_per_sm_bytes": gpu.shared_memory_per_sm_bytes,
        "max_threads_per_sm": gpu.max_threads_per_sm,
        "free_and_total": [gpu.total_bytes - gpu.context_bytes, gpu.total_bytes],
    }
    assert seen == expected | dict.fromkeys(untold)


def _look() -> dict[str, Any]:
    card: Any = torch.cuda.get_device_properties(0)
    return {
        "count": torch.cuda.device_count(),
        "name": card.name,
        "capability": torch.cuda.get_device_capability(),
        "num_sms": card.multi_processor_count,
        "total_bytes": card.total_memory,
        "l2_cache_bytes": getattr(card, "L2_cache_size", None),
        "shared_memory_per_block_optin_bytes": getattr(card, "shared_memory_per_block_optin", None),
        "shared_memory_per_sm_bytes": getattr(card, "shared_memory_per_multiprocessor", None),
        "max_threads_per_sm": getattr(card, "max_threads_per_multi_processor", None),
        "free_and_total": torch.cuda.mem_get_info(),
    }


def test_three_cards_hold_memory_apart(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-3090", _fill_two_of_three, count=3)
    assert len(set(seen["uuids"])) == (3 if since(torch="2.5") else 1)  # torch 2.4 tells none
    assert seen["reserved"] == seen["held"] == [0, 64 * MIB, 32 * MIB]
    assert seen["used_by_context"] == [False, True, True]


def _uuid(index: int) -> str:
    return str(getattr(torch.cuda.get_device_properties(index), "uuid", None))


def _fill_two_of_three() -> dict[str, Any]:
    tensors = [torch.empty(n * MIB, dtype=torch.uint8, device=f"cuda:{i}") for i, n in ((1, 64), (2, 32))]
    assert [tensor.device.index for tensor in tensors] == [1, 2]
    devices = live_state().devices
    return {
        "uuids": [_uuid(i) for i in range(torch.cuda.device_count())],
        "reserved": [torch.cuda.memory_reserved(i) for i in range(3)],
        "held": [devices[i].held_bytes for i in range(3)],
        "used_by_context": [devices[i].used_bytes > devices[i].held_bytes for i in range(3)],
    }
