"""Which device a request gets, and the reason it is given."""

from __future__ import annotations

import pytest

from profiler.errors import ConfigError
from profiler.hardware.catalogue import Gpu, find_gpu
from profiler.hardware.discovery import choose_device
from profiler.units import GIB, MIB, TIB
from profiler.virtual.state import Quirk, device_uuid
from tests.unit.hardware.machines import Play, a_device, an_a100, run_script, without_a_driver

CHOOSE = """
from profiler.hardware.discovery import choose_device
request, *size = sys.argv[1:] or [os.environ["REQUEST"]]
choice = attempt(choose_device, request)
show(choice if isinstance(choice, dict) else
     {"kind": choice.kind, "name": choice.gpu.name, "reason": choice.reason,
      "index": getattr(choice.gpu, "index", None), "uuid": getattr(choice.gpu, "uuid", None)})
"""


def test_auto_takes_the_only_real_gpu(play: Play) -> None:
    choice = play().run(CHOOSE, REQUEST="auto")
    assert (choice["kind"], choice["index"], choice["name"]) == ("real", 0, "NVIDIA GeForce RTX 4090")
    assert choice["reason"] == "the only GPU that CUDA sees"


def test_auto_takes_the_first_gpu_on_which_nobody_computes(play: Play) -> None:
    busy, drawn_on = a_device(other_bytes=GIB, other_pid=77), a_device(other_bytes=GIB, other_pid=-78)
    choice = play(busy, drawn_on, a_device()).run(CHOOSE, REQUEST="auto")
    assert choice["index"] == 1
    assert choice["uuid"] == device_uuid(a_device().name, 1)
    assert choice["reason"] == "the first of 3 GPUs on which nobody else computes"


def test_where_all_are_busy_the_first_is_taken_and_said_to_be(play: Play) -> None:
    busy = a_device(other_bytes=GIB, other_pid=77)
    choice = play(busy, busy).run(CHOOSE, REQUEST="real")
    assert choice["index"] == 0
    assert choice["reason"] == "others compute on all 2 GPUs; this is the first"


def test_auto_without_a_driver_takes_the_virtual_rtx_4090_and_says_why() -> None:
    choice = run_script(CHOOSE, without_a_driver() | {"REQUEST": "auto"})
    if choice["kind"] == "real":
        pytest.skip("this machine has a GPU")
    assert choice["kind"] == "virtual"
    assert choice["name"] == find_gpu("rtx-4090").name
    assert choice["reason"].startswith("no real GPU can be used: no NVIDIA driver")


def test_real_without_a_driver_gives_nvmls_reason_and_offers_a_virtual_card() -> None:
    problem = run_script(CHOOSE, without_a_driver() | {"REQUEST": "real"})
    if "error" not in problem:
        pytest.skip("this machine has a GPU")
    assert "libnvidia-ml.so.1" in problem["message"]
    assert "--gpu rtx-4090" in problem["hint"]


@pytest.mark.parametrize(
    ("quirks", "words"),
    [(Quirk.LOST, "a GPU is lost"), (Quirk.DRIVER_TOO_OLD, "is too old: it runs CUDA up to ")],
)
def test_a_gpu_that_cannot_be_used_is_refused_and_auto_turns_to_a_virtual_one(
    play: Play, quirks: Quirk, words: str
) -> None:
    bench = play(quirks=quirks)
    problem = bench.run(CHOOSE, REQUEST="real")
    assert problem["error"] in ("EnvironmentUnfitError", "GpuLostError")
    assert words in problem["message"]
    choice = bench.run(CHOOSE, REQUEST="auto")
    assert choice["kind"] == "virtual"
    assert words in choice["reason"]


def test_a_lost_card_leaves_the_others_to_be_used(play: Play) -> None:
    choice = play(a_device(), a_device(), quirks=Quirk.LOST).run(CHOOSE, REQUEST="auto")
    assert (choice["kind"], choice["uuid"]) == ("real", device_uuid(a_device().name, 1))


def test_an_index_is_cudas_not_nvmls(play: Play) -> None:
    bench = play(a_device(), a_device(), a_device(), quirks=Quirk.NVML_REVERSED)
    choice = bench.run(CHOOSE, REQUEST="real:0")
    assert choice["uuid"] == device_uuid(a_device().name, 0)
    assert choice["reason"] == "GPU 0 was asked for"
    assert bench.run(CHOOSE, REQUEST="real:0", CUDA_VISIBLE_DEVICES="2")["uuid"] == device_uuid(
        a_device().name, 2
    )


def test_an_index_that_cuda_does_not_see_is_refused_with_the_count(play: Play) -> None:
    problem = play(a_device(), a_device()).run(CHOOSE, REQUEST="real:1", CUDA_VISIBLE_DEVICES="1")
    assert problem["message"] == "there is no GPU 1: CUDA sees 1 GPU, numbered from 0"


def test_hidden_gpus_are_said_to_be_hidden(play: Play) -> None:
    problem = play().run(CHOOSE, REQUEST="real", CUDA_VISIBLE_DEVICES="")
    assert problem["message"] == "CUDA_VISIBLE_DEVICES='' leaves CUDA none of this machine's GPUs"


def test_a_guessed_order_is_said_to_be_one(play: Play) -> None:
    choice = play(a_device(), an_a100()).run(CHOOSE, REQUEST="real:0")
    assert "guess" in choice["reason"]
    choice = play(a_device(), an_a100()).run(CHOOSE, REQUEST="real:0", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert choice["reason"] == "GPU 0 was asked for"


def test_a_machine_with_a_driver_and_no_card_says_so(play: Play) -> None:
    bench = play()
    bench.state().num_devices = 0
    assert bench.run(CHOOSE, REQUEST="real")["message"] == "this machine has no NVIDIA GPU"


def test_a_catalogue_id_is_a_virtual_card_whatever_is_installed() -> None:
    choice = choose_device("a100-80gb")
    assert choice.kind == "virtual"
    assert choice.gpu == find_gpu("a100-80gb")
    assert choice.reason == "a100-80gb was asked for"


@pytest.mark.parametrize("request_", ["rtx-4090", "auto"])
def test_a_capacity_makes_it_virtual_and_keeps_the_drivers_reserve(request_: str) -> None:
    own = find_gpu("rtx-4090")
    choice = choose_device(request_, gpu_memory_bytes=2 * TIB)
    assert choice.kind == "virtual"
    assert isinstance(choice.gpu, Gpu)
    assert choice.gpu.total_bytes == 2 * TIB
    assert choice.gpu.nvml_total_bytes - 2 * TIB == own.nvml_total_bytes - own.total_bytes
    assert "with 2.00 TiB instead of its own" in choice.reason


@pytest.mark.parametrize(
    ("request_", "gpu_memory_bytes", "words"),
    [
        ("rtx-4080x", None, "unknown GPU 'rtx-4080x'"),
        ("real:", None, "unknown GPU 'real:'"),
        ("real:-1", None, "unknown GPU 'real:-1'"),
        ("", None, "unknown GPU ''"),
        ("real", GIB, "a real GPU's memory cannot be set"),
        ("real:0", GIB, "a real GPU's memory cannot be set"),
        ("rtx-4090", MIB, "has no room for a CUDA context"),
    ],
)
def test_a_wrong_request_is_a_configuration_error_with_a_hint(
    request_: str, gpu_memory_bytes: int | None, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(request_, gpu_memory_bytes=gpu_memory_bytes)
    assert words in caught.value.message
    assert caught.value.hint
