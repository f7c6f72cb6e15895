"""The NVML stand-in, asked as pynvml and torch ask: layouts, versions, sizes and refusals."""

from __future__ import annotations

import os

import pytest

from profiler.units import GIB, MIB
from profiler.virtual.state import Quirk
from tests.unit.hardware.machines import Play, a_device, an_a100

ASK = """
import pynvml
from pynvml import *

def code(function, *arguments):
    try:
        function(*arguments)
    except NVMLError as error:
        return error.value
    return 0

def a_list(items):
    return [[item.pid, item.usedGpuMemory, item.gpuInstanceId, item.computeInstanceId] for item in items]

nvmlInit()
card = nvmlDeviceGetHandleByIndex(0)
"""

NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, FUNCTION_NOT_FOUND = 3, 4, 6, 13


def test_the_first_version_of_memory_counts_the_drivers_reserve_and_the_second_does_not(play: Play) -> None:
    source = """
    first, second = nvmlDeviceGetMemoryInfo(card), nvmlDeviceGetMemoryInfo(card, nvmlMemory_v2)
    show([[first.total, first.used, first.free], [second.total, second.reserved, second.used, second.free]])
    """
    first, second = play(a_device(other_bytes=GIB)).run(ASK, source)
    assert second == [24_500 * MIB, 500 * MIB, GIB, 24_000 * MIB - GIB]
    assert first == [24_500 * MIB, 500 * MIB + GIB, 24_000 * MIB - GIB]


def test_a_wrong_version_of_memory_is_refused_as_an_unknown_function(play: Play) -> None:
    assert play().run(ASK, "show(code(nvmlDeviceGetMemoryInfo, card, 2))") == FUNCTION_NOT_FOUND


def test_every_version_of_the_process_list_agrees(play: Play) -> None:
    source = """
    import ctypes
    class First(ctypes.Structure):
        _fields_ = [("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong)]
    count = ctypes.c_uint(8)
    items = (First * 8)()
    assert pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses(card, ctypes.byref(count), items) == 0
    show([[[item.pid, item.used] for item in items[:count.value]],
          a_list(nvmlDeviceGetComputeRunningProcesses_v2(card)),
          a_list(nvmlDeviceGetComputeRunningProcesses_v3(card))])
    """
    bench = play(a_device(other_bytes=GIB, other_pid=77))
    bench.hold(2 * GIB, pid=os.getpid())
    first, second, third = bench.run(ASK, source)
    assert first == [[os.getpid(), 2 * GIB + 400 * MIB], [77, GIB]]
    assert second == third == [[*item, 0xFFFFFFFF, 0xFFFFFFFF] for item in first]


def test_a_list_that_is_too_short_is_told_how_long_it_must_be(play: Play) -> None:
    source = """
    import ctypes
    ask = pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v2
    answers = []
    for room in (0, 1, 2, 5):
        count = ctypes.c_uint(room)
        items = (pynvml.c_nvmlProcessInfo_v2_t * 5)()
        answers.append([ask(card, ctypes.byref(count), items), count.value])
    show(answers)
    """
    bench = play(a_device(other_bytes=GIB, other_pid=77))
    bench.hold(GIB, pid=os.getpid())
    assert bench.run(ASK, source) == [[7, 2], [7, 2], [0, 2], [0, 2]]


def test_nothing_answers_before_it_is_initialised_or_after_it_is_shut_down(play: Play) -> None:
    source = """
    nvmlInit(); nvmlShutdown()
    still_open = code(nvmlDeviceGetName, card)
    nvmlShutdown()
    show([still_open, code(nvmlDeviceGetName, card), code(nvmlDeviceGetCount), code(nvmlShutdown)])
    """
    assert play().run(ASK, source) == [0, 1, 1, 1]


@pytest.mark.parametrize("text", ["00000000:02:00.0", "0000:02:00.0", "0000:02:00", "02:00.0", "0:2:0"])
def test_a_card_is_found_by_its_place_on_the_bus_however_it_is_written(play: Play, text: str) -> None:
    bench = play(a_device(), a_device(), quirks=Quirk.NVML_REVERSED)
    source = "show(nvmlDeviceGetIndex(nvmlDeviceGetHandleByPciBusId(os.environ['BUS'].encode())))"
    assert bench.run(ASK, source, BUS=text) == 0


def test_what_is_not_there_is_not_found(play: Play) -> None:
    source = """
    show([code(nvmlDeviceGetHandleByPciBusId, b"0000:03:00.0"), code(nvmlDeviceGetHandleByUUID, b"GPU-0"),
          code(nvmlDeviceGetHandleByUUID, b"MIG-0"), code(nvmlDeviceGetHandleByIndex, 2)])
    """
    assert play(a_device(), a_device()).run(ASK, source) == [NOT_FOUND, NOT_FOUND, NOT_FOUND, 2]


def test_what_a_virtual_card_cannot_know_is_not_supported(play: Play) -> None:
    source = """
    show([code(nvmlDeviceGetUtilizationRates, card), code(nvmlDeviceGetTemperature, card, 0),
          code(nvmlDeviceGetTemperatureV, card, 0), code(nvmlDeviceGetPowerUsage, card),
          code(nvmlDeviceGetNvLinkRemoteDeviceType, card, 0), code(nvmlDeviceGetNvLinkRemotePciInfo, card, 0),
          code(nvmlDeviceGetMigMode, card)])
    """
    assert play().run(ASK, source) == [NOT_SUPPORTED] * 7


def test_a_split_card_keeps_its_own_memory_and_processes_to_itself(play: Play) -> None:
    source = """
    part = nvmlDeviceGetMigDeviceHandleByIndex(card, 0)
    uuid = nvmlDeviceGetUUID(part)
    older = f"MIG-{nvmlDeviceGetUUID(card)}/1/0".encode()
    show({
        "card": [code(nvmlDeviceGetMemoryInfo, card), code(nvmlDeviceGetMemoryInfo, card, nvmlMemory_v2),
                 code(nvmlDeviceGetComputeRunningProcesses_v2, card),
                 code(nvmlDeviceGetMPSComputeRunningProcesses, card)],
        "mode": [nvmlDeviceGetMigMode(card), nvmlDeviceGetMaxMigDeviceCount(card),
                 code(nvmlDeviceGetMigDeviceHandleByIndex, card, 1)],
        "slice": [nvmlDeviceGetGpuInstanceId(part), nvmlDeviceGetComputeInstanceId(part),
                  nvmlDeviceGetIndex(part), nvmlDeviceIsMigDeviceHandle(part).value,
                  nvmlDeviceGetAttributes(part).memorySizeMB],
        "processes": a_list(nvmlDeviceGetComputeRunningProcesses_v3(part)),
        "same": [nvmlDeviceGetUUID(nvmlDeviceGetHandleByUUID(name)) == uuid
                 for name in (uuid.encode(), older)],
        "parent": nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)) ==
                  nvmlDeviceGetUUID(card),
    })
    """
    device = an_a100(total_bytes=9 * GIB, nvml_total_bytes=10 * GIB, other_bytes=GIB, other_pid=77)
    found = play(device, quirks=Quirk.MIG).run(ASK, source)
    assert found["card"] == [NO_PERMISSION] * 4
    assert found["mode"] == [[1, 1], 7, NOT_FOUND]
    assert found["slice"] == [1, 0, 0, 1, 10 * 1024]
    assert found["processes"] == [[77, GIB, 1, 0]]
    assert found["same"] == [True, True]
    assert found["parent"]


def test_a_card_that_can_be_split_and_is_not_says_so(play: Play) -> None:
    source = "show([nvmlDeviceGetMigMode(card), nvmlDeviceGetMaxMigDeviceCount(card)])"
    assert play(an_a100()).run(ASK, source) == [[0, 0], 0]


@pytest.mark.parametrize(
    ("driver_version", "shown"),
    [(11040, [11040, "470.256.02", "11.470.256.02"]), (13000, [12040, "550.54.15", "12.550.54.15"])],
)
def test_a_driver_that_is_too_old_is_of_the_cuda_it_runs(
    play: Play, driver_version: int, shown: list[int | str]
) -> None:
    source = """
    show([nvmlSystemGetCudaDriverVersion_v2(), nvmlSystemGetDriverVersion(), nvmlSystemGetNVMLVersion()])
    """
    bench = play(quirks=Quirk.DRIVER_TOO_OLD)
    bench.state().driver_version = driver_version
    assert bench.run(ASK, source) == shown


def test_the_name_and_the_version_of_a_driver_are_the_states(play: Play) -> None:
    source = "show([nvmlSystemGetCudaDriverVersion(), nvmlSystemGetDriverVersion()])"
    assert play(cuda_version=12010, driver_name="530.30.02").run(ASK, source) == [12010, "530.30.02"]


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", (8, 9), [5, 8]),
        ("NVIDIA RTX 6000 Ada Generation", (8, 9), [13, 8]),
        ("NVIDIA A100-SXM4-80GB", (8, 0), [14, 7]),
        ("NVIDIA H100 80GB HBM3", (9, 0), [14, 9]),
        ("NVIDIA GeForce RTX 5090", (12, 0), [5, 10]),
    ],
)
def test_brand_and_architecture_follow_from_name_and_capability(
    play: Play, name: str, capability: tuple[int, int], expected: list[int]
) -> None:
    source = "show([nvmlDeviceGetBrand(card), nvmlDeviceGetArchitecture(card)])"
    assert play(a_device(name=name, compute_capability=capability)).run(ASK, source) == expected


def test_torchs_older_way_of_starting_fails_on_a_machine_with_a_lost_card(play: Play) -> None:
    source = "show([pynvml.nvmlLib.nvmlInit(), pynvml.nvmlLib.nvmlInit_v2()])"
    opened = ASK.replace("card = nvmlDeviceGetHandleByIndex(0)\n", "")
    assert play(quirks=Quirk.LOST).run(opened, source) == [15, 0]
