"""Gradients of several micro batches a step, on a virtual card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.records.schema import PhaseName
from profiler.units import MIB
from tests.virtual.jobs import a_job, a_model, run_warm
from tests.virtual.test_explain import explain

if TYPE_CHECKING:
    from profiler.records.schema import PhaseReading, Record
    from tests.virtual.harness import WarmMachines


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return a_model(tmp_path_factory.mktemp("accumulation") / "model")


def at(record: Record, name: PhaseName, step: int, micro_step: int) -> PhaseReading:
    (found,) = [phase for phase in record.phases if phase.place == (name, step, micro_step)]
    return found


def test_each_micro_batch_has_a_forward_and_a_backward_phase(virtual_gpu: WarmMachines, model: str) -> None:
    record = run_warm(virtual_gpu, a_job(model=model, accumulation=2, steps=2))
    phases = [str(phase.place) for phase in record.phases if phase.step == 1]
    assert phases == [
        *("forward, step 1, micro step 0", "backward, step 1, micro step 0"),
        *("forward, step 1, micro step 1", "backward, step 1, micro step 1"),
        *("clip, step 1", "step, step 1", "zero_grad, step 1"),
    ]


def test_a_later_micro_batch_meets_the_gradients_of_those_before(
    virtual_gpu: WarmMachines, model: str
) -> None:
    record = run_warm(virtual_gpu, a_job(model=model, accumulation=3, optimizer="sgd"))
    ends = [at(record, PhaseName.FORWARD, 1, number).components for number in range(3)]
    assert ends[0] is not None
    weights_bytes = ends[0].weights_bytes
    assert [end.gradients_bytes for end in ends if end] == [0, weights_bytes, weights_bytes]
    assert len({end.activations_bytes for end in ends if end}) == 1
    once = run_warm(virtual_gpu, a_job(model=model, optimizer="sgd"))
    assert record.peak is not None
    assert once.peak is not None
    assert record.peak.allocated_bytes - once.peak.allocated_bytes > weights_bytes // 2
    assert record.steady == once.steady


@pytest.mark.parametrize(("loop", "num_batches"), [("plain", 1), ("trainer", 3)])
def test_trainer_has_all_micro_batches_of_a_step_on_the_card(
    virtual_gpu: WarmMachines, model: str, loop: str, num_batches: int
) -> None:
    record = run_warm(virtual_gpu, a_job(model=model, accumulation=3, loop=loop))
    end = at(record, PhaseName.FORWARD, 0, 0).components
    assert end is not None
    assert end.batch_bytes == num_batches * 3 * 2 * 256 * 8


def test_where_memory_runs_out_the_micro_step_is_told(virtual_gpu: WarmMachines) -> None:
    job = a_job(model="smollm2-135m", optimizer="sgd", steps=1, batch_size=4, seq_len=1024)
    fitting = run_warm(virtual_gpu, job)
    assert fitting.device is not None
    assert fitting.peak is not None
    room_bytes = (fitting.device.context_bytes or 0) + fitting.peak.reserved_bytes
    accumulating = job.model_copy(update={"accumulation": 2, "gpu_memory_bytes": room_bytes})
    outcome = run_warm(virtual_gpu, accumulating).outcome
    assert (outcome.place or ())[1:] == (0, 1)


def test_the_loss_of_a_later_micro_batch_is_explained_as_that_of_the_first(
    virtual_gpu: WarmMachines, model: str
) -> None:
    """autograd's thread still has the mark of the micro batch before when it begins with the next."""
    jobs = [a_job(model=model, method="lora", accumulation=number) for number in (1, 2)]
    sizes = [explain(virtual_gpu, job).sizes("logits and loss") for job in jobs]
    once, again = sizes
    assert once["backward pass"] == again["backward pass"] > MIB
    assert again["forward pass"] - once["forward pass"] == 512  # the loss, divided by their number
