"""When a real card is too busy to measure on."""

from __future__ import annotations

import os

import pytest

from profiler.units import GIB, MIB
from profiler.virtual.state import Quirk, VirtualDevice
from tests.unit.hardware.machines import Play, a_device

CHECK = """
from profiler.hardware.discovery import find_real_gpus
from profiler.hardware.idle import check_idle, find_busy
from profiler.hardware.nvml import open_nvml
from profiler.hardware.visible import find_visible
with open_nvml() as nvml:
    (gpu,) = find_visible(nvml.list_cards().cards, os.environ).gpus
show({"busy": [process.pid for process in find_busy(gpu)],
      "strict": attempt(check_idle, gpu, allow_busy=False),
      "lenient": attempt(check_idle, gpu, allow_busy=True)})
"""


def test_an_empty_card_is_idle(play: Play) -> None:
    report = play().run(CHECK)["strict"]
    assert report == {
        "baseline_bytes": 0,
        "busy": [],
        "bystanders": [],
        "unexplained_bytes": 0,
        "notes": [],
    }


def test_a_process_that_computes_is_named_with_its_memory_and_the_way_out(play: Play) -> None:
    found = play(a_device(other_bytes=5 * GIB, other_pid=4242)).run(CHECK)
    assert found["busy"] == [4242]
    assert found["strict"]["error"] == "EnvironmentUnfitError"
    assert found["strict"]["message"].startswith("GPU 0 (NVIDIA GeForce RTX 4090) is in use: ")
    assert "(pid 4242) holds 5.00 GiB" in found["strict"]["message"]
    assert "--allow-busy" in found["strict"]["hint"]
    assert found["lenient"]["baseline_bytes"] == 5 * GIB
    assert [process["pid"] for process in found["lenient"]["busy"]] == [4242]


def test_a_process_that_computes_is_busy_however_little_it_holds(play: Play) -> None:
    found = play(a_device(other_bytes=1, other_pid=4242)).run(CHECK)
    assert "(pid 4242) holds 1 B" in found["strict"]["message"]


def test_a_desktop_is_part_of_the_baseline(play: Play) -> None:
    found = play(a_device(other_bytes=GIB, other_pid=-900)).run(CHECK)
    assert found["busy"] == []
    assert found["strict"]["baseline_bytes"] == GIB
    assert [process["pid"] for process in found["strict"]["bystanders"]] == [900]


def test_memory_that_screens_hold_beside_a_desktop_is_no_hidden_process(play: Play) -> None:
    bench = play(a_device(other_bytes=GIB, other_pid=-900))
    bench.state().devices[0].used_bytes += 300 * MIB
    assert bench.run(CHECK)["strict"]["unexplained_bytes"] == 300 * MIB


@pytest.mark.parametrize(("unseen_bytes", "is_refused"), [(128 * MIB, False), (128 * MIB + 1, True)])
def test_memory_of_no_visible_process_is_a_hidden_one_above_a_limit(
    play: Play, unseen_bytes: int, is_refused: bool
) -> None:
    found = play(a_device(other_bytes=unseen_bytes, other_pid=0)).run(CHECK)
    assert found["busy"] == []
    assert ("error" in found["strict"]) == is_refused
    assert found["lenient"]["unexplained_bytes"] == unseen_bytes
    if is_refused:
        assert (
            "128.00 MiB held by a process that this user or container cannot see"
            in found["strict"]["message"]
        )


def test_our_own_context_is_neither_busy_nor_unexplained(play: Play) -> None:
    own = """
    state = live_state()
    state.processes[0].pid, state.processes[0].contexts = os.getpid(), 1
    state.devices[0].used_bytes = state.devices[0].context_bytes
    """
    report = play().run("\n".join(line.strip() for line in own.splitlines()) + CHECK)["strict"]
    assert report["busy"] == []
    assert report["unexplained_bytes"] == 0
    assert report["baseline_bytes"] == 400 * MIB


def test_where_memory_is_not_told_a_process_is_still_named(play: Play) -> None:
    found = play(a_device(other_bytes=5 * GIB, other_pid=4242), quirks=Quirk.NO_PROCESS_MEMORY).run(CHECK)
    assert "(pid 4242) holds an unknown amount" in found["strict"]["message"]
    assert found["lenient"]["unexplained_bytes"] is None
    assert "less the baseline" in found["lenient"]["notes"][0]


def test_a_hosts_process_is_named_by_number_only(play: Play) -> None:
    bench = play(quirks=Quirk.HOST_PIDS)
    bench.hold(GIB, pid=os.getpid())
    assert "a process (pid " in bench.run(CHECK)["strict"]["message"]


@pytest.mark.parametrize("quirks", [Quirk.MIG, Quirk.NO_MEMORY_V2, Quirk.NVML_REVERSED])
def test_other_difficult_cards_are_checked_alike(play: Play, quirks: Quirk) -> None:
    device: VirtualDevice = a_device(other_bytes=5 * GIB, other_pid=4242)
    found = play(device, quirks=quirks).run(CHECK)
    assert "(pid 4242) holds 5.00 GiB" in found["strict"]["message"]


def test_a_card_lost_meanwhile_is_an_error_with_a_hint(play: Play) -> None:
    source = CHECK.replace(
        "show(", "live_state().quirks = 1 << 3\nshow(attempt(check_idle, gpu, allow_busy=True))\n0 and ("
    )
    assert play().run(source)["error"] == "GpuLostError"
