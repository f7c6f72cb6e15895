"""The reader of real cards, on every difficult card that the stand-in can play."""

from __future__ import annotations

import os

import pynvml
import pytest

from profiler.errors import EnvironmentUnfitError
from profiler.hardware.nvml import GpuLostError, explain
from profiler.units import GIB, MIB
from profiler.virtual.state import Quirk, device_uuid
from tests.unit.hardware.machines import Play, a_device, an_a100, run_script, without_a_driver

LIST = """
from profiler.hardware.nvml import open_nvml
def main():
    with open_nvml() as nvml:
        return nvml.list_cards()
listing = attempt(main)
show(listing if isinstance(listing, dict) else
     {"cards": listing.cards, "failures": [failure.message for failure in listing.failures]})
"""

READ = """
from profiler.hardware.nvml import open_nvml
def main():
    with open_nvml() as nvml:
        for card in nvml.list_cards().cards:
            for gpu in card.gpus:
                reader = nvml.read(gpu)
                yield {"memory": reader.memory(), "processes": reader.processes(),
                       "own": reader.process_bytes().get(os.getpid())}
"""


def test_a_card_is_described_as_the_driver_describes_it(play: Play) -> None:
    (card,) = play(a_device(other_bytes=3 * GIB, other_pid=77)).run(LIST)["cards"]
    (gpu,) = card["gpus"]
    assert gpu == {
        "index": None,
        "nvml_index": 0,
        "uuid": device_uuid("NVIDIA GeForce RTX 4090", 0),
        "name": "NVIDIA GeForce RTX 4090",
        "pci_bus_id": "0000:01:00.0",
        "total_bytes": 24_500 * MIB,
        "used_bytes": 3 * GIB,
        "compute_capability": [8, 9],
        "driver": "580.65.06",
        "mig_instance": None,
        "parent_uuid": None,
    }


def test_nvmls_order_may_be_the_reverse_of_the_bus(play: Play) -> None:
    bench = play(a_device(), a_device(), a_device(), quirks=Quirk.NVML_REVERSED)
    cards = bench.run(LIST)["cards"]
    assert [card["nvml_index"] for card in cards] == [0, 1, 2]
    assert [card["pci_bus_id"] for card in cards] == ["0000:03:00.0", "0000:02:00.0", "0000:01:00.0"]
    assert [card["uuid"] for card in cards] == [device_uuid(a_device().name, index) for index in (2, 1, 0)]


def test_a_split_card_is_listed_by_its_slices_without_asking_the_card_for_memory(play: Play) -> None:
    (card,) = play(an_a100(total_bytes=9 * GIB, nvml_total_bytes=10 * GIB), quirks=Quirk.MIG).run(LIST)[
        "cards"
    ]
    (gpu,) = card["gpus"]
    assert card["is_split"]
    assert card["name"] == "NVIDIA A100-SXM4-80GB"
    assert gpu["name"] == "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
    assert gpu["uuid"].startswith("MIG-")
    assert gpu["uuid"][4:] == device_uuid("NVIDIA A100-SXM4-80GB", 0)[4:]
    assert gpu["parent_uuid"] == card["uuid"] != "GPU-" + gpu["uuid"][4:]
    assert gpu["mig_instance"] == [1, 0]
    assert gpu["total_bytes"] == 10 * GIB
    assert gpu["pci_bus_id"] == "0000:01:00.0"


def test_one_lost_card_hides_no_other(play: Play) -> None:
    listing = play(a_device(), a_device(), quirks=Quirk.LOST).run(LIST)
    assert [card["pci_bus_id"] for card in listing["cards"]] == ["0000:02:00.0"]
    assert listing["failures"] == ["a GPU is lost: it fell off the bus or stopped answering"]


def test_a_machine_whose_only_card_is_lost_says_so(play: Play) -> None:
    problem = play(quirks=Quirk.LOST).run(LIST)
    assert problem["error"] == "GpuLostError"
    assert "Xid 79" in problem["hint"]


def test_a_card_lost_after_it_was_opened_is_reported_as_lost(play: Play) -> None:
    source = """
    from profiler.hardware.nvml import open_nvml
    def main():
        with open_nvml() as nvml:
            reader = nvml.read(nvml.list_cards().cards[0].gpus[0])
            live_state().quirks = 1 << 3
            reader.memory()
    show(attempt(main))
    """
    assert play().run(source)["error"] == "GpuLostError"


def test_a_machine_without_a_driver_says_what_to_do() -> None:
    problem = run_script(LIST, without_a_driver())
    if "error" not in problem:
        pytest.skip("this machine has a driver")
    assert problem["error"] == "EnvironmentUnfitError"
    assert "libnvidia-ml.so.1" in problem["message"]
    assert "--gpu rtx-4090" in problem["hint"]


def test_a_driver_that_does_not_run_is_told_from_one_that_is_missing(play: Play) -> None:
    problem = play().run(LIST, PEAKVRAM_VGPU="")
    assert problem["message"] == "the NVIDIA driver is installed but not running"


def test_an_old_driver_is_read_through_its_older_calls(play: Play) -> None:
    bench = play(a_device(other_bytes=GIB, other_pid=77), quirks=Quirk.NO_MEMORY_V2)
    (read,) = bench.run(READ, "show(list(main()))")
    # Before release 510 the total left the driver's reserve out, and so did what was used.
    assert read["memory"] == {"total_bytes": 24_000 * MIB, "used_bytes": GIB}
    assert [(process["pid"], process["used_bytes"]) for process in read["processes"]] == [(77, GIB)]


def test_used_memory_leaves_the_drivers_reserve_out(play: Play) -> None:
    (read,) = play(a_device(other_bytes=GIB)).run(READ, "show(list(main()))")
    assert read["memory"] == {"total_bytes": 24_500 * MIB, "used_bytes": GIB}


@pytest.mark.parametrize("quirks", [Quirk(0), Quirk.MIG, Quirk.NO_MEMORY_V2])
def test_each_process_is_listed_with_its_context(play: Play, quirks: Quirk) -> None:
    bench = play(a_device(other_bytes=GIB, other_pid=77), quirks=quirks)
    bench.hold(5 * GIB, pid=os.getpid())
    (read,) = bench.run(READ, "show(list(main()))")
    listed = {process["pid"]: process["used_bytes"] for process in read["processes"]}
    assert listed == {77: GIB, os.getpid(): 5 * GIB + 400 * MIB}
    assert {process["kind"] for process in read["processes"]} == {"compute"}
    assert read["own"] is None


def test_our_own_memory_is_found_among_the_others(play: Play) -> None:
    source = """
    own = live_state().processes[0]
    own.pid, own.contexts, own.held_bytes[0] = os.getpid(), 1, 1 << 30
    show(list(main()))
    """
    (read,) = play(a_device(other_bytes=GIB, other_pid=77)).run(READ, source)
    assert read["own"] == GIB + 400 * MIB


def test_hosts_process_ids_do_not_pass_for_ours(play: Play) -> None:
    source = """
    own = live_state().processes[0]
    own.pid, own.contexts = os.getpid(), 1
    (read,) = main()
    show([read, os.getpid()])
    """
    read, pid = play(quirks=Quirk.HOST_PIDS).run(READ, source)
    assert read["own"] is None
    (process,) = read["processes"]
    assert process["pid"] != pid
    assert process["name"] is None


def test_memory_that_is_not_told_is_none_and_the_process_is_still_listed(play: Play) -> None:
    bench = play(a_device(other_bytes=GIB, other_pid=77), quirks=Quirk.NO_PROCESS_MEMORY)
    (read,) = bench.run(READ, "show(list(main()))")
    assert [(process["pid"], process["used_bytes"]) for process in read["processes"]] == [(77, None)]
    assert read["memory"]["used_bytes"] == GIB


def test_a_figure_of_zero_is_none_as_some_drivers_give_it_in_containers(play: Play) -> None:
    bench = play(a_device(context_bytes=0))
    bench.hold(0, pid=os.getpid())
    (read,) = bench.run(READ, "show(list(main()))")
    assert [process["used_bytes"] for process in read["processes"]] == [None]


def test_a_desktops_process_is_told_from_one_that_computes(play: Play) -> None:
    (read,) = play(a_device(other_bytes=GIB, other_pid=-77)).run(READ, "show(list(main()))")
    assert [(process["pid"], process["kind"]) for process in read["processes"]] == [(77, "graphics")]


def test_memory_of_a_process_that_died_is_given_back(play: Play) -> None:
    source = """
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state = live_state()
    state.processes[0].pid, state.processes[0].contexts = child.pid, 1
    state.devices[0].used_bytes += state.devices[0].context_bytes
    before = list(main())
    child.communicate(b"\\n")
    show([before, list(main())])
    """
    ((before,), (after,)) = play().run(READ, source)
    assert before["memory"]["used_bytes"] == 400 * MIB
    assert after["memory"]["used_bytes"] == 0
    assert after["processes"] == []


def test_nvml_may_be_opened_inside_itself(play: Play) -> None:
    source = """
    from profiler.hardware.nvml import open_nvml
    with open_nvml() as outer:
        with open_nvml() as inner:
            pass
        show(len(outer.list_cards().cards))
    """
    assert play().run(source) == 1


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "--gpus all"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "reboot"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "/dev/nvidia"),
        (pynvml.NVML_ERROR_GPU_IS_LOST, "dmesg"),
        (pynvml.NVML_ERROR_UNKNOWN, "container"),
        (pynvml.NVML_ERROR_IRQ_ISSUE, "nvidia-smi"),
    ],
)
def test_every_failure_of_the_driver_says_what_to_do(code: int, word: str) -> None:
    error = explain(pynvml.NVMLError(code))
    assert isinstance(error, EnvironmentUnfitError)
    assert error.exit_code == 3
    assert word in error.hint
    assert isinstance(error, GpuLostError) == (code == pynvml.NVML_ERROR_GPU_IS_LOST)


@pytest.mark.parametrize("is_same_namespace", [True, False])
def test_a_process_is_named_only_where_its_number_means_the_same_to_us(
    play: Play, is_same_namespace: bool
) -> None:
    source = f"""
    from profiler.hardware import readings
    readings.sees_host_pids = lambda: {is_same_namespace}
    own = live_state().processes[0]
    own.pid, own.contexts = os.getpid(), 1
    (read,) = main()
    show([read["processes"][0].name, open("/proc/self/comm").read().strip()])
    """
    name, actual = play().run(READ, source)
    assert name == (actual if is_same_namespace else None)
