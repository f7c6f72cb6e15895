"""What runs on a real card, run without one.

Here the whole tool, not only its worker, is a process of a virtual machine: NVML and CUDA answer it as a real
driver would. It cannot know better, so its records say "real": discovery, the idle check, the choice by UUID,
the sampling and the labels are those of a real card. Nobody but a test does this.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from profiler.hardware.catalogue import find_gpu
from profiler.records.schema import OutcomeStatus, PhaseName, Record
from profiler.units import GIB, MIB
from profiler.virtual.state import Quirk, device_uuid, open_state
from tests.builders import ROOT
from tests.virtual.harness import WarmMachines, a_machine
from tests.virtual.jobs import a_job, a_model, run_forked, run_warm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from profiler.jobs.job import JobSpec
    from profiler.virtual.state import Machine

A100 = find_gpu("a100-80gb")
UNLIKE = {"elapsed_s", "device_used_peak_bytes", "process_used_peak_bytes", "host"}
"""What a virtual twin has otherwise, or computes."""


class Workshop:
    """Makes machines with A100s and runs a LoRA job on each."""

    def __init__(self, virtual_gpu: WarmMachines, directory: Path) -> None:
        self._virtual_gpu = virtual_gpu
        self._directory = directory
        self._model = a_model(directory / "model", vocab_size=64)  # so small that there is no note on logits
        self._num_machines = 0

    def job(self, gpu: str = "real") -> JobSpec:
        return a_job(model=self._model, gpu=gpu, method="lora", attention_mask="none", steps=2)

    def machine(self, **settings: Any) -> Machine:
        self._num_machines += 1
        return a_machine(self._directory / f"machine-{self._num_machines}", "a100-80gb", **settings)

    def run(
        self,
        gpu: str = "real",
        *,
        on: Machine | None = None,
        allow_busy: bool = False,
        variables: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Ran:
        """Runs the job on a machine, or on a new one with these settings."""
        machine = on or self.machine(**settings)
        told = run_forked(
            self._virtual_gpu, self.job(gpu), machine=machine, variables=variables, allow_busy=allow_busy
        )
        state = open_state(machine.state_path)
        return Ran(told=told, used=[state.devices[i].num_allocations > 0 for i in range(state.num_devices)])


@dataclass(frozen=True)
class Ran:
    """What came of a job: a record or an error, and which of the machine's cards it has allocated on."""

    told: dict[str, Any]
    used: list[bool]

    @property
    def record(self) -> Record:
        assert "exit_code" not in self.told, self.told
        record = Record.model_validate(self.told)
        assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
        return record


@pytest.fixture(scope="module")
def workshop(virtual_gpu: WarmMachines, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(virtual_gpu, tmp_path_factory.mktemp("workshop"))


def peak_device_bytes(record: Record) -> int:
    assert record.peak is not None
    assert record.peak.device_used_bytes is not None
    return record.peak.device_used_bytes


def own_device_bytes(record: Record) -> int:
    """What a card holds where only the job uses it."""
    assert record.peak is not None
    return A100.context_bytes + record.peak.reserved_bytes


def test_the_command_measures_a_real_card(workshop: Workshop, tmp_path: Path) -> None:
    job = workshop.job()
    options = ["--gpu", "real", "--method", "lora", "--seq-len", "256", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "profiler", "run", job.model, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env=workshop.machine().environment(os.environ),
    )
    assert done.returncode == 0, done.stderr
    assert "virtual" not in done.stdout.lower()
    assert "device (sampled)" in done.stdout
    assert "device figures were sampled every 10 ms: a shorter peak may be missing" in done.stdout
    assert "fits, " in done.stdout
    (path,) = (tmp_path / "records").iterdir()
    record = Record.model_validate_json(path.read_text())
    assert record.outcome.status is OutcomeStatus.OK
    assert record.spec.gpu == "real:0"
    assert record.environment is not None
    assert record.environment.driver == "580.65.06"
    device = record.device
    assert device is not None
    assert (device.kind, device.id, device.name) == ("real", "nvidia-a100-sxm4-80gb", A100.name)
    assert device.uuid == device_uuid(A100.name, 0)
    assert (device.total_bytes, device.num_sms) == (A100.total_bytes, A100.num_sms)
    assert device.context_bytes is None
    assert device.device_used_source == "sampled"
    assert device.reason == "the only GPU that CUDA sees"
    for phase in record.phases:
        assert phase.elapsed_s is not None
        assert phase.device_used_peak_bytes is not None
        assert phase.device_used_peak_bytes >= A100.context_bytes + phase.reserved_end_bytes


def start_run(workshop: Workshop, machine: Machine, out: Path, *flags: str) -> subprocess.Popen[str]:
    """Starts the command on a machine whose card it takes for a real one."""
    options = ["--gpu", "real", "--method", "lora", "--seq-len", "256", "--out", str(out), *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "profiler", "run", workshop.job().model, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=machine.environment(os.environ),
    )


def test_of_two_runs_started_together_one_has_the_card(workshop: Workshop, tmp_path: Path) -> None:
    machine = workshop.machine()
    runs = [start_run(workshop, machine, tmp_path / name) for name in ("one", "other")]
    told = {run.pid: run.communicate(timeout=180)[1] for run in runs}
    winner, loser = sorted(runs, key=lambda run: run.returncode)
    assert (winner.returncode, loser.returncode) == (0, 3), told
    assert (
        told[loser.pid]
        .splitlines()[0]
        .endswith(
            "error: GPU 0 (NVIDIA A100-SXM4-80GB) is in use: "
            f"another peakvram (pid {winner.pid}) measures on it"
        )
    )
    assert "--allow-busy" in told[loser.pid]
    assert len(list(tmp_path.glob("*/records/*.json"))) == 1


def test_a_real_card_and_its_virtual_twin_allocate_the_same(
    workshop: Workshop, virtual_gpu: WarmMachines
) -> None:
    real = workshop.run().record
    twin = run_warm(virtual_gpu, workshop.job("a100-80gb"))
    assert twin.outcome.status is OutcomeStatus.OK

    def figures(record: Record) -> list[object]:
        return [p.model_dump(exclude=UNLIKE) for p in record.phases]

    assert figures(real) == figures(twin)
    assert real.peak == twin.peak
    assert real.key != twin.key


def test_a_card_that_others_use_is_refused(workshop: Workshop) -> None:
    ran = workshop.run(other_bytes=GIB)
    assert ran.told["exit_code"] == 3
    assert ran.told["message"] == (
        "GPU 0 (NVIDIA A100-SXM4-80GB) is in use: a process (pid 4242) holds 1.00 GiB"
    )
    assert "--allow-busy" in ran.told["hint"]
    assert ran.used == [False]


def test_beside_others_a_job_runs_if_allowed_and_the_record_says_so(workshop: Workshop) -> None:
    alone, beside = workshop.run().record, workshop.run(other_bytes=GIB, allow_busy=True).record
    assert alone.notes == ()
    assert beside.notes == ("other processes computed on the card: 4242",)
    assert peak_device_bytes(beside) == peak_device_bytes(alone) + GIB
    for phase in beside.phases:
        assert phase.process_used_peak_bytes is not None
        assert phase.device_used_peak_bytes == phase.process_used_peak_bytes + GIB


def test_a_process_that_cannot_be_seen_is_refused_and_a_desktop_is_not(workshop: Workshop) -> None:
    unseen = workshop.run(other_bytes=GIB, other_pid=0)
    assert unseen.told["exit_code"] == 3
    assert "1.00 GiB held by a process that this user or container cannot see" in unseen.told["message"]
    assert workshop.run(other_bytes=GIB, other_pid=-4242).record.notes == ()


@pytest.mark.parametrize("quirks", [Quirk(0), Quirk.NVML_REVERSED], ids=["in order", "reversed"])
@pytest.mark.parametrize("index", [0, 1])
def test_of_two_cards_the_one_asked_for_is_used_whatever_nvmls_order(
    index: int, quirks: Quirk, workshop: Workshop
) -> None:
    ran = workshop.run(f"real:{index}", count=2, quirks=quirks)
    assert ran.used == [index == 0, index == 1]
    assert ran.record.device is not None
    assert ran.record.device.uuid == device_uuid(A100.name, index)
    # Read on that very card: the other one holds nothing.
    assert peak_device_bytes(ran.record) == own_device_bytes(ran.record)


def test_cards_that_are_hidden_are_not_used(workshop: Workshop) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": "2,1"}
    assert workshop.run("real:1", count=3, variables=hidden).used == [False, True, False]
    refused = workshop.run("real:2", count=3, variables=hidden)
    assert refused.told["exit_code"] == 3
    assert refused.told["message"] == "there is no GPU 2: CUDA sees 2 GPUs, numbered from 0"


def test_the_first_of_two_cards_that_is_free_is_taken(workshop: Workshop) -> None:
    machine = workshop.machine(count=2)
    first = open_state(machine.state_path).devices[0]
    first.other_bytes = first.used_bytes = GIB
    ran = workshop.run("auto", on=machine)
    assert ran.used == [False, True]
    assert ran.record.device is not None
    assert ran.record.device.reason == "the first of 2 GPUs on which nobody else computes"
    assert ran.record.notes == ()


@pytest.mark.parametrize("quirk", [Quirk.NO_PROCESS_MEMORY, Quirk.HOST_PIDS], ids=["WSL", "container"])
def test_where_no_process_can_be_told_apart_the_cards_own_figure_is_left(
    quirk: Quirk, workshop: Workshop
) -> None:
    record = workshop.run(quirks=quirk).record
    assert {phase.process_used_peak_bytes for phase in record.phases} == {None}
    assert peak_device_bytes(record) == own_device_bytes(record)


def test_an_older_driver_is_read_as_well(workshop: Workshop) -> None:
    record = workshop.run(quirks=Quirk.NO_MEMORY_V2).record
    assert peak_device_bytes(record) == own_device_bytes(record)


def test_a_mig_slice_is_measured_as_a_card_of_its_own(workshop: Workshop) -> None:
    record = workshop.run(quirks=Quirk.MIG).record
    assert record.device is not None
    assert record.device.uuid == device_uuid(A100.name, 0).replace("GPU-", "MIG-")
    assert record.device.name.startswith("NVIDIA A100-SXM4-80GB MIG 1g.")
    assert record.device.device_used_source == "sampled"
    assert peak_device_bytes(record) == own_device_bytes(record)


def test_a_driver_too_old_for_torch_is_told_with_what_to_do(workshop: Workshop) -> None:
    told = workshop.run(quirks=Quirk.DRIVER_TOO_OLD).told
    assert told["exit_code"] == 3
    assert "is too old: it runs CUDA up to" in told["message"]
    assert "update the driver" in told["hint"]


def test_a_lost_card_is_told_and_another_one_takes_the_job(workshop: Workshop) -> None:
    told = workshop.run(quirks=Quirk.LOST).told
    assert told["exit_code"] == 3
    assert told["message"] == "a GPU is lost: it fell off the bus or stopped answering"
    assert workshop.run(quirks=Quirk.LOST, count=2).used == [False, True]


def test_a_card_whose_driver_falls_silent_is_recorded_as_far_as_it_spoke(
    workshop: Workshop, virtual_gpu: WarmMachines
) -> None:
    job = workshop.job().model_copy(update={"steps": 20})
    told = run_forked(virtual_gpu, job, machine=workshop.machine(), lost_after=PhaseName.OPTIMIZER)
    record = Record.model_validate(told)
    assert record.outcome.status is OutcomeStatus.OK
    assert record.phases[0].device_used_peak_bytes is not None
    assert record.phases[-1].device_used_peak_bytes is None
    assert record.notes == (
        "some device figures are missing: a GPU is lost: it fell off the bus or stopped answering",
    )


def test_a_card_with_no_room_for_a_context_is_out_of_memory_there(workshop: Workshop) -> None:
    told = workshop.run(other_bytes=A100.total_bytes - 100 * MIB, allow_busy=True).told
    assert told["outcome"]["status"] == OutcomeStatus.OOM
    assert told["outcome"]["phase"] == PhaseName.CONTEXT
    assert told["outcome"]["message"].startswith("CUDA error: out of memory")
    assert told["notes"] == ["other processes computed on the card: 4242"]


def test_other_peoples_memory_is_told_apart_where_it_is_what_is_missing(workshop: Workshop) -> None:
    others_bytes = A100.total_bytes - A100.context_bytes - 4 * MIB
    told = workshop.run(other_bytes=others_bytes, allow_busy=True).told
    assert told["outcome"]["status"] == OutcomeStatus.OOM
    assert told["outcome"]["phase"] == PhaseName.LOAD
    assert f"Process 4242 has {others_bytes / GIB:.2f} GiB memory in use" in told["outcome"]["message"]
