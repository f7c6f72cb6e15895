from __future__ import annotations

from typing import Any

import pytest

from profiler.evidence.claims.figures import ClaimFigure, Compare, Unit, compare_figures, read_figure, unit_of
from profiler.records.schema import Components, Outcome, OutcomeStatus, Parameters, PhaseName, Record
from profiler.units import GIB, MIB
from tests.builders import a_job, a_phase, a_record, a_report

CONTEXT = 426 * MIB
WEIGHTS = {"weights_bytes": 4 * GIB, "quantization_state_bytes": GIB}


def a_training_record(**spec: Any) -> Record:
    """Two steps of a LoRA job: 5 GiB of weights, 2 GiB of activations, peaks of 10 and 12 GiB."""
    held = Components(**WEIGHTS, adapter_bytes=GIB)
    phases = (
        a_phase(PhaseName.CONTEXT, end=0),
        a_phase(PhaseName.LOAD, end=5 * GIB),
        a_phase(PhaseName.OPTIMIZER, end=6 * GIB, components=held),
        a_phase(PhaseName.FORWARD, 0, end=8 * GIB, components=held),
        a_phase(PhaseName.BACKWARD, 0, end=7 * GIB, peak=10 * GIB, components=held),
        a_phase(
            PhaseName.FORWARD,
            1,
            end=9 * GIB,
            peak=9 * GIB,
            allocated_start_bytes=7 * GIB,
            components=held.model_copy(update={"activations_bytes": 2 * GIB, "optimizer_bytes": 2 * GIB}),
        ),
        a_phase(
            PhaseName.BACKWARD,
            1,
            end=8 * GIB,
            peak=12 * GIB,
            components=held.model_copy(update={"gradients_bytes": GIB, "optimizer_bytes": 2 * GIB}),
        ),
    )
    counts = Parameters(total=GIB + GIB // 4, trainable=GIB // 4)
    return a_record(spec=a_job(method="lora", **spec), report=a_report(phases, parameters=counts))


def an_inference_record() -> Record:
    held = Components(**WEIGHTS, kv_cache_bytes=GIB)
    phases = (
        a_phase(PhaseName.LOAD, end=5 * GIB),
        a_phase(PhaseName.PREFILL, end=6 * GIB, peak=8 * GIB, components=held),
        a_phase(PhaseName.DECODE, end=6 * GIB, peak=7 * GIB, components=held),
    )
    counts = Parameters(total=GIB, trainable=GIB)
    return a_record(spec=a_job(method="inference"), report=a_report(phases, parameters=counts))


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        (ClaimFigure.DEVICE, 12 * GIB + CONTEXT),
        (ClaimFigure.FIT, 0),
        (ClaimFigure.ALLOCATED, 12 * GIB),
        (ClaimFigure.BEYOND_TENSORS, CONTEXT),
        (ClaimFigure.CONTEXT, CONTEXT),
        (ClaimFigure.UNUSED_RESERVED, 0),
        (ClaimFigure.WEIGHTS, 5 * GIB),
        (ClaimFigure.GRADIENTS, GIB),
        (ClaimFigure.OPTIMIZER, 2 * GIB),
        (ClaimFigure.ADAPTER, GIB),
        (ClaimFigure.ADAPTER_AND_GRADIENTS, 2 * GIB),
        (ClaimFigure.WEIGHTS_PER_PARAMETER, 5),
        (ClaimFigure.GRADIENTS_PER_PARAMETER, 4),
        (ClaimFigure.OPTIMIZER_PER_PARAMETER, 8),
        (ClaimFigure.ADAPTER_PER_PARAMETER, 4),
        (ClaimFigure.SAVED_ACTIVATIONS, 2 * GIB),
        (ClaimFigure.WORKING, 5 * GIB),
        (ClaimFigure.BEYOND_WEIGHTS, 7 * GIB),
        (ClaimFigure.BEFORE_TRAINING, 6 * GIB + CONTEXT),
        (ClaimFigure.FIRST_STEP_RISE, 4 * GIB),
        (ClaimFigure.TRAINED_SHARE, 25),
        (ClaimFigure.OPTIMIZER_TO_WEIGHTS, 0.4),
        (ClaimFigure.GRADIENTS_TO_WEIGHTS, 0.2),
    ],
)
def test_a_figure_of_training_is_read_where_it_stands(figure: ClaimFigure, value: float) -> None:
    assert read_figure(figure, a_training_record()) == value


def test_figures_of_inference_are_read_after_loading() -> None:
    record = an_inference_record()
    assert read_figure(ClaimFigure.KV_CACHE, record) == GIB
    assert read_figure(ClaimFigure.WEIGHTS, record) == 5 * GIB
    assert read_figure(ClaimFigure.WEIGHTS_PER_PARAMETER, record) == 5
    assert read_figure(ClaimFigure.INFERENCE_WORKING, record) == 40  # 8 GiB less weights and cache, of 5 GiB
    assert read_figure(ClaimFigure.OVER_WEIGHTS, record) == pytest.approx(60 + 100 * CONTEXT / (5 * GIB))


def test_a_figure_that_a_job_cannot_have_is_none() -> None:
    assert read_figure(ClaimFigure.SAVED_ACTIVATIONS, an_inference_record()) is None
    assert read_figure(ClaimFigure.FIRST_STEP_RISE, an_inference_record()) is None


def test_a_record_without_any_reading_tells_nothing() -> None:
    record = a_record(report=a_report((), parameters=None))
    assert [figure for figure in ClaimFigure if read_figure(figure, record) is not None] == []


@pytest.mark.parametrize("figure", ClaimFigure)
def test_out_of_memory_tells_only_that_it_does_not_fit(figure: ClaimFigure) -> None:
    record = a_record(outcome=Outcome(status=OutcomeStatus.OOM))
    assert read_figure(figure, record) == (1 if figure is ClaimFigure.FIT else None)


@pytest.mark.parametrize("status", [OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT, OutcomeStatus.KILLED])
def test_a_job_that_failed_tells_nothing(status: OutcomeStatus) -> None:
    record = a_record(outcome=Outcome(status=status))
    assert [figure for figure in ClaimFigure if read_figure(figure, record) is not None] == []


@pytest.mark.parametrize("figure", ClaimFigure)
def test_sizes_are_whole_bytes(figure: ClaimFigure) -> None:
    value = read_figure(figure, a_training_record())
    if unit_of(figure, None) is Unit.BYTES and value is not None:
        assert isinstance(value, int)


@pytest.mark.parametrize(
    ("compare", "value"),
    [
        (Compare.RATIO, 4),
        (Compare.SAVING, -300),
        (Compare.INCREASE, 300),
        (Compare.DIFFERENCE, 3),
        (Compare.EXPONENT, 2),
    ],
)
def test_two_figures_are_compared(compare: Compare, value: float) -> None:
    assert compare_figures(compare, 4, 1, lengths=(1024, 512)) == pytest.approx(value)


def test_what_has_no_meaning_is_none() -> None:
    assert compare_figures(Compare.RATIO, 4, 0, lengths=(1024, 512)) is None
    assert compare_figures(Compare.EXPONENT, 4, 1, lengths=(512, 512)) is None
    assert compare_figures(Compare.EXPONENT, 0, 1, lengths=(1024, 512)) is None


def test_a_comparison_has_a_unit_of_its_own() -> None:
    assert unit_of(ClaimFigure.DEVICE, None) is Unit.BYTES
    assert unit_of(ClaimFigure.DEVICE, Compare.DIFFERENCE) is Unit.BYTES
    assert unit_of(ClaimFigure.DEVICE, Compare.SAVING) is Unit.PERCENT
    assert unit_of(ClaimFigure.WEIGHTS_PER_PARAMETER, None) is Unit.BYTES_PER_PARAMETER
    assert unit_of(ClaimFigure.WORKING, Compare.EXPONENT) is Unit.EXPONENT
