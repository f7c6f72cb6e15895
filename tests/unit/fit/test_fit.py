from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from profiler.errors import ConfigError
from profiler.estimate.apply import correct
from profiler.estimate.factors import read_factors, write_factors
from profiler.fit.fit import Fitted, Unfitted, factor_file, fit_formula
from profiler.fit.sample import sample_of
from profiler.formula.breakdown import shape_of
from profiler.formula.configs import architecture_of
from profiler.units import MIB
from tests.builders import a_job
from tests.unit.fit.made_up import (
    CONTEXT,
    MADE_UP,
    MODELS,
    SILENT,
    a_measured_job,
    a_sample,
    jobs,
    true_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path

TRUE = {"weights": 1.4, "activations": 0.6, "optimizer": 2.0}


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    result = fit_formula(MADE_UP, a_sample(TRUE))
    assert isinstance(result, Fitted)
    return result


def test_the_factors_behind_records_are_found(fitted: Fitted) -> None:
    [every] = fitted.factors.allocated.factors
    assert {term: factor.value for term, factor in every.factors.items()} == pytest.approx(TRUE, rel=0.01)
    assert {factor.status for factor in every.factors.values()} == {"fitted"}
    assert (every.num_records, every.num_models) == (48, len(MODELS))


def test_the_gaps_are_fitted_apart(fitted: Fitted) -> None:
    assert fitted.factors.reserved_gap is not None
    assert fitted.factors.device_gap is not None
    [device] = fitted.factors.device_gap.factors
    assert device.factors["context"].value == pytest.approx(1.0, rel=1e-3)
    assert device.factors["constant"].value == pytest.approx(0.0, abs=1)  # MiB


def test_factors_predict_what_the_records_show(fitted: Fitted) -> None:
    spec = a_job(model="llama-3.2-3b", method="lora", batch_size=3, seq_len=3000)
    breakdown = MADE_UP.evaluate(spec, architecture_of(spec.model), shape_of(spec))
    found = correct(breakdown, factors=fitted.factors, job=spec, context_bytes=CONTEXT)
    true = true_bytes(spec, TRUE)
    assert found.allocated.value_bytes == pytest.approx(true, rel=0.01)
    assert found.reserved is not None
    assert found.device_used is not None
    assert found.reserved.value_bytes == pytest.approx(true * 1.05, rel=0.02)
    assert found.device_used.value_bytes == pytest.approx(true * 1.05 + CONTEXT, rel=0.02)


@pytest.mark.slow
def test_jobs_that_tried_again_do_not_bend_the_gap() -> None:
    specs = jobs()
    usual = [
        a_measured_job(spec, allocated=true_bytes(spec, TRUE), reserved=round(true_bytes(spec, TRUE) * 1.05))
        for spec in specs
    ]
    tight = [
        a_measured_job(
            spec.model_copy(update={"steps": 2}), allocated=true_bytes(spec, TRUE), num_alloc_retries=3
        )
        for spec in specs
    ]
    found = []
    for records in (usual, [*usual, *tight]):
        result = fit_formula(MADE_UP, sample_of(records, studies=[]))
        assert isinstance(result, Fitted)
        found.append(result.factors.reserved_gap)
    assert found[0] == found[1]


def test_a_model_is_predicted_by_the_others_alone() -> None:
    """A model that takes twice what all others say is not seen by the factors that predict it."""
    specs = jobs()
    odd = MODELS[-1]
    records = [
        a_measured_job(spec, allocated=true_bytes(spec, TRUE) * (2 if spec.model == odd else 1))
        for spec in specs
    ]
    result = fit_formula(MADE_UP, sample_of(records, studies=[]))
    assert isinstance(result, Fitted)
    errors = result.held_out.allocated / result.case.allocated_bytes - 1
    is_odd = result.case.models == odd
    np.testing.assert_allclose(errors[is_odd], -0.5, atol=0.03)


def test_a_formula_that_speaks_of_nothing_has_no_factors() -> None:
    result = fit_formula(SILENT, a_sample(TRUE))
    assert isinstance(result, Unfitted)
    assert result.reason == "it speaks of nothing"
    with pytest.raises(ConfigError, match="none of the formulas speaks of enough of these records"):
        factor_file([], a_sample(TRUE))


def test_a_formula_that_speaks_of_two_models_has_no_factors() -> None:
    sample = a_sample(
        TRUE,
        specs=[
            *jobs(models=MODELS[:2]),
            *jobs(models=MODELS[2:], methods=["qlora"]),  # of which it says nothing
        ],
    )
    result = fit_formula(MADE_UP, sample)
    assert isinstance(result, Unfitted)
    assert result.reason == "it speaks of 16 of the records only, of 2 models"


def test_what_was_fitted_is_written_and_read(fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "factors.json"
    write_factors(path, factor_file([fitted], a_sample(TRUE)))
    found = read_factors(path)
    assert found.formulas == {"made-up": fitted.factors}
    assert found.fitted_on.num_records == 48


def test_the_interval_of_an_exact_formula_is_narrow(fitted: Fitted) -> None:
    every = fitted.factors.allocated.intervals[0]
    assert 0.99 < every.low <= 1.0001
    assert 0.9999 <= every.high < 1.01
    assert fitted.case.reserved_bytes.min() > MIB
