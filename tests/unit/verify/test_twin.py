from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from profiler.hardware.catalogue import find_gpu
from profiler.hardware.nvml import RealGpu
from profiler.units import GIB, MIB
from profiler.verify.facts import CardFacts
from profiler.verify.twin import twin_of
from profiler.virtual.launch import as_device

RTX_3060 = find_gpu("rtx-3060-12gb")


def facts(**changes: Any) -> CardFacts:
    """What an RTX 3060 says that is as the catalogue has it."""
    same = {name: getattr(RTX_3060, name) for name in CardFacts.__dataclass_fields__}
    return CardFacts(**{**same, **changes})


def card(total_bytes: int = RTX_3060.nvml_total_bytes) -> RealGpu:
    return RealGpu(
        index=0,
        nvml_index=0,
        uuid="GPU-1",
        name=RTX_3060.name,
        pci_bus_id="0000:01:00.0",
        total_bytes=total_bytes,
        used_bytes=0,
        compute_capability=RTX_3060.compute_capability,
        driver="580.65.06",
    )


def test_a_card_as_the_catalogue_has_it_is_its_own_twin() -> None:
    twin = twin_of(card(), facts())
    assert (twin.gpu, twin.catalogue_id, twin.differences) == (RTX_3060, "rtx-3060-12gb", ())
    assert twin.choice.kind == "virtual"


def test_the_cards_own_figures_are_taken_and_the_catalogues_are_told() -> None:
    total_bytes = RTX_3060.total_bytes - 20 * MIB
    twin = twin_of(card(), facts(total_bytes=total_bytes, context_bytes=301 * MIB))
    assert twin.catalogue_id == "rtx-3060-12gb"
    assert (twin.gpu.total_bytes, twin.gpu.context_bytes) == (total_bytes, 301 * MIB)
    assert [(found.figure, found.catalogue, found.card) for found in twin.differences] == [
        ("total_bytes", RTX_3060.total_bytes, total_bytes),
        ("context_bytes", RTX_3060.context_bytes, 301 * MIB),
    ]
    assert twin.reason.endswith("total_bytes, context_bytes are the card's own")


@pytest.mark.parametrize(
    "changes",
    [
        {"total_bytes": 8 * GIB},
        {"num_sms": RTX_3060.num_sms - 2},
        {
            "name": "NVIDIA T4",
            "compute_capability": (7, 5),
            "max_threads_per_sm": 1024,
            "max_blocks_per_sm": 16,
        },
    ],
    ids=["the 8 GB model", "fewer multiprocessors", "an older card"],
)
def test_another_card_gets_a_twin_with_all_of_its_figures(changes: dict[str, Any]) -> None:
    told = facts(**changes)
    twin = twin_of(card(told.total_bytes + 100 * MIB), told)
    assert twin.catalogue_id is None
    assert twin.gpu.id.startswith("twin-of-nvidia-")
    device = as_device(twin.gpu)
    shown: dict[str, Any] = {name: getattr(device, name, None) for name in CardFacts.__dataclass_fields__}
    shown["max_shared_memory_per_block_optin_bytes"] = device.shared_memory_per_block_optin_bytes
    assert CardFacts(**shown) == told
    assert device.nvml_total_bytes == told.total_bytes + 100 * MIB


def test_a_driver_that_tells_no_bus_width_is_no_obstacle() -> None:
    twin = twin_of(card(), facts(memory_bus_width_bits=0))
    assert as_device(twin.gpu).memory_bus_width_bits == 0
    assert replace(twin.gpu, memory_bus_width_bits=RTX_3060.memory_bus_width_bits) == RTX_3060
