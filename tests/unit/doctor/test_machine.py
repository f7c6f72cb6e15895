"""What the doctor says of difficult machines."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.doctor import machine
from profiler.doctor.checks import Check, Diagnosis, Status
from profiler.doctor.machine import diagnose
from profiler.units import GIB
from profiler.virtual.state import Quirk
from tests.unit.hardware.machines import NOBODY, Play, a_device, an_a100, run_script, without_a_driver

if TYPE_CHECKING:
    from pathlib import Path

DIAGNOSE = """
from profiler.doctor.machine import diagnose
diagnosis = diagnose()
show({"status": diagnosis.status, "checks": diagnosis.checks, "torch": "torch" in sys.modules})
"""


def found(diagnosis: Diagnosis, name: str) -> Check:
    (check,) = (check for check in diagnosis.checks if check.name == name)
    return check


def named(result: dict[str, list[dict[str, str]]], name: str) -> list[tuple[str, str]]:
    return [(check["status"], check["detail"]) for check in result["checks"] if check["name"] == name]


def test_a_machine_without_a_driver_is_fit_for_virtual_gpus() -> None:
    result = run_script(DIAGNOSE, without_a_driver())
    if named(result, "driver")[0][0] == "ok":
        pytest.skip("this machine has a driver")
    ((status, detail),) = named(result, "driver")
    assert status == "warn"
    assert "libnvidia-ml.so.1" in detail
    assert result["status"] != "fail"
    assert not result["torch"]


def test_each_card_is_described_in_a_line(play: Play) -> None:
    bench = play(a_device(other_bytes=3 * GIB, other_pid=-NOBODY), a_device())
    result = bench.run(DIAGNOSE, CUDA_VISIBLE_DEVICES="0")
    assert named(result, "driver") == [("ok", "NVIDIA 580.65.06, CUDA up to 13.0")]
    assert named(result, "gpu 0") == [
        (
            "ok",
            "NVIDIA GeForce RTX 4090; 3.00 GiB of 23.93 GiB used; compute capability 8.9; bus 0000:01:00.0; "
            f"others drawing: pid {NOBODY}; memory of each process: told",
        )
    ]
    ((status, detail),) = named(result, "gpu (hidden)")
    assert status == "ok"
    assert "bus 0000:02:00.0" in detail


def test_a_busy_card_is_a_warning_with_the_process_in_it(play: Play) -> None:
    ((status, detail),) = named(play(a_device(other_bytes=GIB, other_pid=NOBODY)).run(DIAGNOSE), "gpu 0")
    assert status == "warn"
    assert f"others computing: pid {NOBODY}" in detail


@pytest.mark.parametrize(
    ("quirks", "name", "status", "words"),
    [
        (Quirk.DRIVER_TOO_OLD, "driver", "fail", "is too old"),
        (Quirk.LOST, "driver", "warn", "a GPU is lost"),
        (Quirk.NO_PROCESS_MEMORY, "gpu 0", "warn", "memory of each process: not told"),
        (Quirk.MIG, "gpu 0", "warn", "a MIG slice"),
        (Quirk.NO_MEMORY_V2, "gpu 0", "warn", "of 23.44 GiB used"),
    ],
)
def test_difficult_cards_are_described_and_break_nothing(
    play: Play, quirks: Quirk, name: str, status: str, words: str
) -> None:
    result = play(a_device(other_bytes=GIB, other_pid=77), quirks=quirks).run(DIAGNOSE)
    ((actual, detail),) = named(result, name)
    assert words in detail
    assert actual == status


def test_a_lost_card_among_others_is_a_failure_of_its_own(play: Play) -> None:
    result = play(a_device(), a_device(), quirks=Quirk.LOST).run(DIAGNOSE)
    assert [status for status, detail in named(result, "gpu") if "lost" in detail] == ["fail"]
    assert len(named(result, "gpu 0")) == 1


def test_an_order_that_is_a_guess_is_said_to_be_one(play: Play) -> None:
    ((status, detail),) = named(play(a_device(), an_a100()).run(DIAGNOSE), "cuda order")
    assert status == "warn"
    assert "guess" in detail


def test_variables_that_change_the_allocator_are_shown() -> None:
    check = found(diagnose(environ={"PYTORCH_ALLOC_CONF": "expandable_segments:True"}), "environment")
    assert check.status is Status.WARN
    assert check.detail == "PYTORCH_ALLOC_CONF=expandable_segments:True"
    assert found(diagnose(environ={}), "environment").status is Status.OK


def test_a_token_is_never_shown() -> None:
    diagnosis = diagnose(environ={"HF_TOKEN": "hf_secret", "HF_HOME": "/cache"})
    assert "hf_secret" not in repr(diagnosis)
    assert found(diagnosis, "hugging face").detail == (
        "HF_HOME=/cache, HF_HUB_CACHE not set, HF_HUB_OFFLINE not set, HF_TOKEN set"
    )


def test_the_disk_of_a_directory_that_is_not_there_yet_is_its_parents(tmp_path: Path) -> None:
    check = found(diagnose(results_directory=tmp_path / "results" / "new"), "disk")
    assert check.detail.endswith(f"free for {tmp_path / 'results' / 'new'}")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [
        ("Linux", "x86_64", ""),
        ("Linux", "aarch64", "virtual GPUs need Linux on x86_64"),
        ("Windows", "AMD64", "WSL 2"),
        ("Darwin", "arm64", "Linux container"),
    ],
)
def test_each_platform_is_told_what_it_can_do(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, words: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    check = found(diagnose(), "platform")
    assert (check.status is Status.OK) == (not words)
    assert words in check.hint


def test_a_missing_torch_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(machine, "find_torch_build", lambda: None)
    diagnosis = diagnose()
    assert found(diagnosis, "torch").status is Status.FAIL
    assert diagnosis.status is Status.FAIL


def test_a_probe_of_the_virtual_gpu_takes_its_place_in_the_list() -> None:
    probe = Check(name="virtual start", status=Status.FAIL, detail="it does not start", hint="see above")
    checks = diagnose(probes=[lambda: probe]).checks
    names = [check.name for check in checks]
    assert names.index("virtual start") == names.index("virtual GPU") + 1
    assert Diagnosis(checks=checks).status is Status.FAIL


def test_a_diagnosis_is_as_bad_as_its_worst_check() -> None:
    def of(*statuses: Status) -> Status:
        return Diagnosis(checks=tuple(Check(name="x", status=s, detail="y") for s in statuses)).status

    assert of() is Status.OK
    assert of(Status.OK, Status.WARN) is Status.WARN
    assert of(Status.FAIL, Status.WARN) is Status.FAIL
