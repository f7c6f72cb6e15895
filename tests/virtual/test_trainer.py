"""`loop: trainer` against transformers' own `Trainer` over the same model and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
