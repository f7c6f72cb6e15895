from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.estimate import card as card_module
from profiler.estimate.card import card_of
from profiler.hardware import discovery
from profiler.hardware.catalogue import find_gpu
from profiler.hardware.discovery import DeviceChoice
from profiler.hardware.nvml import RealGpu
from profiler.units import GIB
from tests.builders import a_job

if TYPE_CHECKING:
    from collections.abc import Iterator


def a_real_gpu(name: str, total_bytes: int) -> RealGpu:
    return RealGpu(
        index=0,
        nvml_index=0,
        uuid="GPU-0",
        name=name,
        pci_bus_id="0000:01:00.0",
        total_bytes=total_bytes,
        used_bytes=0,
        compute_capability=(8, 0),
        driver="580.1",
    )


@pytest.fixture
def _real_gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    gpu: RealGpu = request.param
    choice = DeviceChoice(kind="real", gpu=gpu, reason="the only GPU that CUDA sees")
    monkeypatch.setattr(discovery, "choose_device", lambda _request, **_options: choice)
    card_module._find_card.cache_clear()
    yield
    card_module._find_card.cache_clear()


def test_a_card_of_the_catalogue_has_the_memory_that_a_virtual_one_has() -> None:
    gpu, card = find_gpu("a100-80gb"), card_of(a_job(gpu="a100-80gb"))
    assert (card.total_bytes, card.context_bytes) == (gpu.total_bytes, gpu.context_bytes)
    assert card.reason == "a100-80gb was asked for"


def test_a_card_can_be_given_another_capacity() -> None:
    card = card_of(a_job(gpu="rtx-4090", gpu_memory_bytes=48 * GIB))
    assert card.total_bytes == 48 * GIB
    assert "instead of its own 23.52 GiB" in card.reason


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as raised:
        card_of(a_job(gpu="rtx-4080x"))
    assert "rtx-4080" in raised.value.hint


@pytest.mark.parametrize(
    "_real_gpu",
    [a_real_gpu(find_gpu("rtx-4090").name, find_gpu("rtx-4090").nvml_total_bytes)],
    indirect=True,
)
@pytest.mark.usefixtures("_real_gpu")
def test_a_real_card_of_the_catalogue_has_the_memory_that_cuda_can_hand_out() -> None:
    gpu, card = find_gpu("rtx-4090"), card_of(a_job(gpu="real"))
    assert (card.name, card.total_bytes, card.context_bytes) == (gpu.name, gpu.total_bytes, gpu.context_bytes)
    assert card.reason == "the only GPU that CUDA sees"


@pytest.mark.parametrize("_real_gpu", [a_real_gpu("NVIDIA Unheard-of", 10 * GIB)], indirect=True)
@pytest.mark.usefixtures("_real_gpu")
def test_the_context_of_a_real_card_that_nobody_described_is_not_known() -> None:
    card = card_of(a_job(gpu="real"))
    assert (card.total_bytes, card.context_bytes) == (10 * GIB, None)
