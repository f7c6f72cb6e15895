"""Small jobs on a real card, held to their own figures and to the card's virtual twin."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from profiler.errors import EnvironmentUnfitError
from profiler.execute.local import run_job
from profiler.hardware.catalogue import Gpu, load_catalogue
from profiler.hardware.discovery import find_real_gpus
from profiler.hardware.idle import inspect_idle
from profiler.jobs.job import JobSpec
from profiler.records.schema import OutcomeStatus, PhaseName, Record
from profiler.report.terminal.record import show_record
from profiler.units import MIB

if TYPE_CHECKING:
    from profiler.hardware.nvml import RealGpu

pytestmark = pytest.mark.gpu

METHODS = ["full", "lora", "qlora"]


@pytest.fixture(scope="module")
def card() -> RealGpu:
    """The first real card on which nobody computes."""
    try:
        gpus = find_real_gpus().gpus
    except EnvironmentUnfitError as error:
        pytest.skip(f"no real GPU: {error.message}")
    free = [gpu for gpu in gpus if not inspect_idle(gpu).busy]
    if not free:
        pytest.skip("others compute on every GPU")
    return free[0]


@pytest.fixture(scope="module", params=METHODS)
def record(request: pytest.FixtureRequest, card: RealGpu) -> Record:
    """SmolLM2-135M on the card with each method."""
    record = run_job(a_job(request.param, gpu=f"real:{card.index}"))
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
    return record


def a_job(method: str, *, gpu: str) -> JobSpec:
    job = {"model": "smollm2-135m", "method": method, "gpu": gpu, "batch_size": 2, "seq_len": 512}
    return JobSpec.model_validate(job)


def twin_of(card: RealGpu) -> Gpu:
    for gpu in load_catalogue().values():
        # Cards of one name come with different memories: CUDA shows a little less than NVML.
        if gpu.name == card.name and abs(gpu.nvml_total_bytes - card.total_bytes) < 512 * MIB:
            return gpu
    pytest.skip(f"the catalogue has no {card.name}")


def test_components_add_up_to_what_is_allocated(record: Record) -> None:
    assert record.phases
    for phase in record.phases:
        assert phase.components is not None
        assert phase.components.total_bytes == phase.allocated_end_bytes


def test_the_record_says_that_it_is_of_a_real_card(record: Record, card: RealGpu) -> None:
    device = record.device
    assert device is not None
    assert (device.kind, device.uuid, device.name) == ("real", card.uuid, card.name)
    assert device.total_bytes <= card.total_bytes
    assert device.num_sms > 0
    assert record.environment is not None
    assert record.environment.driver == card.driver
    assert record.value_reads is None, "a real card knows its values"
    shown = StringIO()
    show_record(Console(file=shown, width=120), record)
    assert "virtual" not in shown.getvalue().lower()


def test_device_figures_are_sampled_and_said_to_be(record: Record) -> None:
    assert record.device is not None
    assert record.device.device_used_source == "sampled"
    for phase in record.phases:
        assert phase.elapsed_s is not None
        assert phase.elapsed_s >= 0
        assert phase.device_used_peak_bytes is not None
        # At a phase's end a sample is taken: it sees the context, and all that is reserved then.
        assert phase.reserved_end_bytes < phase.device_used_peak_bytes <= record.device.total_bytes
    assert sum(phase.elapsed_s or 0 for phase in record.phases) > 0
    shown = StringIO()
    show_record(Console(file=shown, width=120), record)
    assert "device (sampled)" in shown.getvalue()


def test_the_virtual_twin_allocates_the_same_to_the_byte(record: Record, card: RealGpu) -> None:
    twin = run_job(a_job(record.spec.method.kind, gpu=twin_of(card).id))
    assert twin.outcome.status is OutcomeStatus.OK, twin.outcome.message

    def allocated(of: Record) -> list[tuple[PhaseName, int | None, int, int]]:
        return [(p.name, p.step, p.allocated_peak_bytes, p.allocated_end_bytes) for p in of.phases]

    assert allocated(twin) == allocated(record)
    assert twin.components == record.components
    assert twin.steady == record.steady


def test_the_same_job_gives_the_same_bytes_twice(record: Record) -> None:
    again = run_job(record.spec)
    assert [(p.allocated_peak_bytes, p.reserved_peak_bytes, p.components) for p in again.phases] == [
        (p.allocated_peak_bytes, p.reserved_peak_bytes, p.components) for p in record.phases
    ]
