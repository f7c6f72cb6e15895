"""The cards a process sees after CUDA_VISIBLE_DEVICES: in torch, and as we foretell them from NVML's list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.hardware.catalogue import find_gpu
from profiler.virtual.state import Quirk, device_uuid

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines

UUIDS = [device_uuid(find_gpu("a40").name, index) for index in range(3)]


def _look() -> tuple[list[str], list[str]]:
    import os

    import torch

    from profiler.hardware.nvml import open_nvml
    from profiler.hardware.visible import find_visible

    with open_nvml() as nvml:
        foretold = find_visible(nvml.list_cards().cards, os.environ).gpus
    seen = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    return [gpu.uuid.partition("-")[2] for gpu in foretold], seen


@pytest.mark.parametrize(
    ("wanted", "cards"),
    [
        (None, [0, 1, 2]),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("0,7,1", [0]),
        ("1,1", []),
        ("", []),
        ("-1", []),
        ("none", []),
        (UUIDS[2], [2]),
        (UUIDS[1][:12], [1]),
        (f"{UUIDS[2]},{UUIDS[0]}", [2, 0]),
        ("GPU-", []),
        ("GPU-nothing", []),
    ],
)
def test_the_cards_named_are_seen_in_that_order(
    wanted: str | None, cards: list[int], virtual_gpu: WarmMachines
) -> None:
    variables = {} if wanted is None else {"CUDA_VISIBLE_DEVICES": wanted}
    foretold, seen = virtual_gpu("a40", _look, count=3, variables=variables)
    assert seen == [UUIDS[card].removeprefix("GPU-") for card in cards]
    assert foretold == seen


@pytest.mark.parametrize("quirks", [Quirk.NVML_REVERSED, Quirk.MIG], ids=["reversed", "MIG"])
def test_nvmls_view_is_another_and_the_cards_are_the_same(quirks: Quirk, virtual_gpu: WarmMachines) -> None:
    named = UUIDS[1].replace("GPU-", "MIG-") if quirks is Quirk.MIG else "1"
    for wanted in (named, f"{named},2"):
        variables = {"CUDA_VISIBLE_DEVICES": wanted}
        foretold, seen = virtual_gpu("a40", _look, count=3, quirks=quirks, variables=variables)
        assert seen[0] == UUIDS[1].removeprefix("GPU-")
        assert len(seen) == (1 if quirks is Quirk.MIG else wanted.count(",") + 1)
        assert foretold == seen


def test_memory_taken_on_a_card_is_counted_on_that_card(virtual_gpu: WarmMachines) -> None:
    held = virtual_gpu("a40", _fill_the_second, count=3, variables={"CUDA_VISIBLE_DEVICES": "2,1"})
    assert held == [0, 64 << 20, 0]


def _fill_the_second() -> list[int]:
    import torch

    from tests.virtual.harness import live_state

    tensor = torch.empty(64 << 20, dtype=torch.uint8, device="cuda:1")
    assert torch.cuda.mem_get_info(1)[0] < torch.cuda.mem_get_info(0)[0]
    assert tensor.device.index == 1
    return [device.held_bytes for device in live_state().devices[:3]]
