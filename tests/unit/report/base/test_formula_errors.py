from __future__ import annotations

import pytest

from profiler.estimate.estimate import Estimate, estimate_jobs
from profiler.estimate.factors import default_factors
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.records.fingerprint import identity_of
from profiler.report.base.formula_errors import FormulaError, formula_errors
from tests.studies import study_records


@pytest.fixture(scope="module")
def errors() -> tuple[FormulaError, ...]:
    return formula_errors(list(study_records()), default_factors())


def test_only_finished_jobs_are_counted(errors: tuple[FormulaError, ...]) -> None:
    (ours,) = (error for error in errors if error.formula is PEAKVRAM)
    assert ours.bare.num_jobs == len(ours.identities) == 22


def test_the_figures_are_those_of_an_estimate(errors: tuple[FormulaError, ...]) -> None:
    (ours,) = (error for error in errors if error.formula is PEAKVRAM)
    jobs = {identity_of(record): record.spec for record in study_records()}
    estimates = estimate_jobs(
        [jobs[identity] for identity in ours.identities], formula=PEAKVRAM, factors=default_factors()
    )
    for estimate, bare, corrected in zip(estimates, ours.bare_bytes, ours.corrected_bytes, strict=True):
        assert isinstance(estimate, Estimate)
        assert (estimate.breakdown.peak_bytes, estimate.corrected.allocated.value_bytes) == (bare, corrected)


def test_the_least_wrong_formula_comes_first(errors: tuple[FormulaError, ...]) -> None:
    medians = [(error.corrected or error.bare).median for error in errors]
    assert medians == sorted(medians)


def test_a_formula_that_speaks_of_no_job_is_left_out(errors: tuple[FormulaError, ...]) -> None:
    assert "orbit2x-inference" not in {error.formula.id for error in errors}


def test_without_finished_jobs_there_is_nothing_to_compare() -> None:
    failed = [record for record in study_records() if record.outcome.status != "ok"]
    assert formula_errors(failed, default_factors()) == ()
