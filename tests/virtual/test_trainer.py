"""`loop: trainer` against transformers' own `Trainer` over the same model and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from profiler.records.schema import CLOSING_PHASES
from tests.virtual.jobs import a_job, a_model, run_warm
from tests.virtual.trainer_run import train

if TYPE_CHECKING:
    from pathlib import Path

    from tests.virtual.harness import WarmMachines


SCALARS_BYTES = 5 * 512
"""What `Trainer` holds besides: the number of tokens learned from, two losses, the gradients' norm, and one
number more while it adds or divides; a block of the allocator each."""


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        ("full", "bf16"),
        ("full", "bf16-amp"),
        ("full", "fp16-amp"),
        ("full", "bf16-autocast"),
        ("lora", "bf16-autocast"),
        ("lora", "fp16-autocast"),
        ("qlora", "bf16-autocast"),
        ("int8-lora", "fp16-autocast"),
    ],
)
def test_the_trainer_loop_takes_what_the_trainer_takes_phase_by_phase(
    method: str, precision: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    assert_alike(virtual_gpu, tmp_path, method=method, precision=precision, batch_size=4)


@pytest.mark.parametrize(("method", "precision"), [("full", "bf16"), ("lora", "bf16-autocast")])
def test_the_trainer_loop_accumulates_as_the_trainer_does(
    method: str, precision: str, virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    """The micro batches of a step are on the card together: `SCALARS_BYTES` are less than one of them."""
    assert_alike(virtual_gpu, tmp_path, method=method, precision=precision, batch_size=4, accumulation=3)


def assert_alike(virtual_gpu: WarmMachines, tmp_path: Path, **changes: object) -> None:
    job = a_job(model=a_model(tmp_path / "model"), loop="trainer", **changes)
    ours = [phase for phase in run_warm(virtual_gpu, job).phases if phase.step is not None]
    theirs = virtual_gpu("rtx-4090", train, job.model_dump_json())
    assert [(str(phase.name), phase.step) for phase in ours] == [(name, step) for name, step, _, _ in theirs]
    for phase, (_, _, end_bytes, peak_bytes) in zip(ours, theirs, strict=True):
        assert 0 <= end_bytes - phase.allocated_end_bytes <= SCALARS_BYTES, (phase.name, phase.step)
        assert 0 <= peak_bytes - phase.allocated_peak_bytes <= SCALARS_BYTES, (phase.name, phase.step)


@pytest.mark.parametrize(
    ("method", "precision", "own"),
    [
        ("full", "bf16", {}),
        ("full", "fp32", {"eval_accumulation_steps": 2}),
        ("lora", "bf16", {"attention_mask": "padded"}),
        ("lora", "bf16-autocast", {"eval_accumulation_steps": 1}),
        ("lora", "fp16-autocast", {"prediction_loss_only": True}),
        ("qlora", "bf16-autocast", {"eval_accumulation_steps": 2}),
        ("int8-lora", "fp16-autocast", {}),
    ],
)
def test_after_the_last_step_a_job_evaluates_and_saves_as_the_trainer_does(
    method: str, precision: str, own: dict[str, Any], virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    job = a_job(
        model=a_model(tmp_path / "model"),
        **{"method": method, "precision": precision, "loop": "trainer", "batch_size": 4, "steps": 2},
        **{"eval_batches": 5, "eval_batch_size": 3, "save": True, **own},
    )
    ours = [phase for phase in run_warm(virtual_gpu, job).phases if phase.name in CLOSING_PHASES]
    theirs = [told for told in virtual_gpu("rtx-4090", train, job.model_dump_json()) if told[1] is None]
    assert [str(phase.name) for phase in ours] == [name for name, _, _, _ in theirs] == ["evaluate", "save"]
    for phase, (_, _, end_bytes, peak_bytes) in zip(ours, theirs, strict=True):
        assert 0 <= end_bytes - phase.allocated_end_bytes <= SCALARS_BYTES, phase.name
        assert phase.allocated_peak_bytes - phase.allocated_end_bytes == peak_bytes - end_bytes, phase.name
