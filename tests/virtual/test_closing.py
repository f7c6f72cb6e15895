"""What comes after the last step: which phases, and what a real run would put on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.records.schema import CLOSING_PHASES, HostMemory, OutcomeStatus, PhaseName, Record
from profiler.units import GIB
from tests.virtual.harness import a_machine
from tests.virtual.jobs import TINY_LLAMA, a_job, a_model, phase, run_forked, run_warm

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.records.schema import PhaseReading
    from tests.virtual.harness import WarmMachines

BATCH, LENGTH, VOCAB = 3, 64, 4096
CLOSING = {"eval_batches": 3, "eval_batch_size": BATCH, "seq_len": LENGTH, "steps": 1, "save": True}
LOGITS = BATCH * LENGTH * VOCAB
"""Of one batch."""
LOSSES_BYTES, LABELS_BYTES = 4 * BATCH, 8 * BATCH * LENGTH
assert TINY_LLAMA["vocab_size"] == VOCAB


def host(reading: PhaseReading) -> HostMemory:
    assert reading.host is not None
    return reading.host


def test_a_job_that_asks_for_neither_ends_with_its_last_step(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    record = run_warm(virtual_gpu, a_job(model=a_model(tmp_path), steps=1))
    assert record.phases[-1].name is PhaseName.ZERO_GRAD


def test_loading_maps_the_checkpoint_and_saving_copies_a_file(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    record = run_warm(virtual_gpu, a_job(model=a_model(tmp_path), **CLOSING))
    loaded, saved = host(phase(record, PhaseName.LOAD)), host(phase(record, PhaseName.SAVE))
    assert record.parameters is not None
    weights_bytes = 2 * record.parameters.total
    assert {loaded.source, saved.source} == {"computed"}
    assert loaded.mapped_bytes == loaded.peak_bytes
    assert 0 < loaded.peak_bytes - weights_bytes < 16_384  # the header of the file
    assert saved == HostMemory(source="computed", peak_bytes=weights_bytes, mapped_bytes=0)
    assert host(phase(record, PhaseName.STEP, 0)).peak_bytes == 0


def test_logits_go_to_the_host_at_the_end_and_numpy_wants_them_in_float32(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    record = run_warm(virtual_gpu, a_job(model=a_model(tmp_path), **CLOSING))
    evaluated = host(phase(record, PhaseName.EVALUATE))
    assert evaluated.peak_bytes == 3 * ((2 + 4) * LOGITS + LOSSES_BYTES)


def test_logits_that_go_to_the_host_batch_by_batch_are_concatenated_there(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_job(model=a_model(tmp_path), precision="fp32", eval_accumulation_steps=1, **CLOSING)
    evaluated = host(phase(run_warm(virtual_gpu, job), PhaseName.EVALUATE))
    before_bytes, after_bytes = 2 * 4 * LOGITS, 3 * 4 * LOGITS
    assert (
        evaluated.peak_bytes == before_bytes + 4 * LOGITS + after_bytes + 3 * LOSSES_BYTES + 2 * LABELS_BYTES
    )


def test_losses_alone_are_next_to_nothing_there(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    job = a_job(model=a_model(tmp_path), prediction_loss_only=True, **CLOSING)
    record = run_warm(virtual_gpu, job)
    assert host(phase(record, PhaseName.EVALUATE)).peak_bytes == 3 * LOSSES_BYTES
    assert not any("evaluation is the peak" in note for note in record.notes)


def test_state_of_a_paged_optimizer_is_on_the_host_from_its_first_step_on(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    record = run_warm(virtual_gpu, a_job(model=a_model(tmp_path), optimizer="paged_adamw_32bit", steps=1))
    assert record.managed_bytes > 0
    assert host(phase(record, PhaseName.BACKWARD, 0)).peak_bytes == 0
    assert host(phase(record, PhaseName.STEP, 0)).peak_bytes == record.managed_bytes


def test_an_evaluation_that_is_the_peak_says_what_lowers_it(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_job(model=a_model(tmp_path), method="lora", **(CLOSING | {"eval_batches": 40}))
    record = run_warm(virtual_gpu, job)
    assert any("the logits of 40 batches stay on the card" in note for note in record.notes)


def test_logits_that_no_host_holds_take_none_of_it(virtual_gpu: WarmMachines, tmp_path: Path) -> None:
    """160 batches of 2 GiB, which come to 640 GiB in float32."""
    job = a_job(
        model=a_model(tmp_path, vocab_size=65_536),
        gpu_memory_bytes=2048 * GIB,
        **(CLOSING | {"eval_batches": 160, "eval_batch_size": 64, "seq_len": 256}),
    )
    record = run_warm(virtual_gpu, job)
    assert record.outcome.status is OutcomeStatus.OK
    assert host(phase(record, PhaseName.EVALUATE)).peak_bytes > 900 * GIB


def test_memory_that_runs_out_in_an_evaluation_ran_out_there(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_job(model=a_model(tmp_path), **(CLOSING | {"eval_batches": 1000, "eval_batch_size": 64}))
    record = run_warm(virtual_gpu, job)
    assert (record.outcome.status, record.outcome.phase) == (OutcomeStatus.OOM, PhaseName.EVALUATE)


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_a_real_card_evaluates_and_saves_as_its_virtual_twin_and_leaves_nothing(
    method: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    changes = {"model": a_model(tmp_path / "model"), "method": method, **CLOSING}
    machine = a_machine(tmp_path / "machine", "a100-80gb")
    told = run_forked(
        virtual_gpu, a_job(gpu="real", **changes), machine=machine, variables={"TMPDIR": str(scratch)}
    )
    real = Record.model_validate(told)
    virtual = run_warm(virtual_gpu, a_job(gpu="a100-80gb", **changes))
    assert closing_of(real) == closing_of(virtual)
    assert {host(reading).source for reading in real.phases} == {"measured"}
    assert all(host(reading).peak_bytes > 0 for reading in real.phases)
    assert list(scratch.iterdir()) == []


def closing_of(record: Record) -> list[tuple[PhaseName, int, int]]:
    return [
        (reading.name, reading.allocated_peak_bytes, reading.reserved_peak_bytes)
        for reading in record.phases
        if reading.name in CLOSING_PHASES
    ]
