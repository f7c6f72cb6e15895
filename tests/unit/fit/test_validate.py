from __future__ import annotations

import numpy as np
import pytest

from profiler.fit.case import make_case
from profiler.fit.fit import fit_formula
from profiler.fit.sample import Sample, sample_of
from profiler.fit.score import score
from profiler.fit.trust import trust
from profiler.fit.validate import Believed, FigureName, Stage, validate
from profiler.units import GIB
from tests.builders import a_job
from tests.unit.fit.made_up import MADE_UP, OUT_OF_MEMORY, SILENT, a_measured_job, a_sample, jobs

TRUE = {"weights": 1.4, "activations": 0.6, "optimizer": 2.0}


def on_two_cards() -> Sample:
    specs = [*jobs(), *jobs(gpu="a100-80gb")]
    return a_sample(TRUE, specs=specs)


def test_errors_are_told_before_and_after() -> None:
    sample = a_sample(TRUE)
    validation = validate(fit_formula(MADE_UP, sample), sample)
    before = validation.score(FigureName.ALLOCATED, Stage.BARE)
    after = validation.score(FigureName.ALLOCATED, Stage.MODELS)
    assert before is not None
    assert after is not None
    assert (before.num_jobs, after.num_jobs) == (48, 48)
    assert before.median > 0.1
    assert after.p95 < 0.01
    assert before.coverage is None
    assert after.coverage is not None
    assert validation.score(FigureName.ALLOCATED, Stage.CARDS) is None  # there is one card


def test_cards_are_left_out_where_there_are_several() -> None:
    sample = on_two_cards()
    validation = validate(fit_formula(MADE_UP, sample), sample)
    for figure in FigureName:
        found = validation.score(figure, Stage.CARDS)
        assert found is not None
        assert found.p95 < 0.02


def test_a_formula_without_factors_is_tested_as_it_is() -> None:
    sample = a_sample(TRUE)
    silent = validate(fit_formula(SILENT, sample), sample)
    assert (silent.lines, silent.trusted, silent.term_errors) == ((), {}, ())
    assert silent.unfitted == "it speaks of nothing"
    assert silent.num_refused == 48


def test_a_corrected_estimate_can_be_believed() -> None:
    sample = a_sample(TRUE)
    validation = validate(fit_formula(MADE_UP, sample), sample)
    bare, value = validation.trusted[Believed.BARE], validation.trusted[Believed.VALUE]
    assert bare.num_jobs <= value.num_jobs == 48
    assert bare.out_of_memory > 0.2
    assert value.out_of_memory < 0.05
    assert value.too_large < 0.05


def some_trust(estimate: float, *, allocated: int, has_context: bool = False) -> tuple[float, float, float]:
    records = [a_measured_job(a_job(method="full"), allocated=allocated)]
    case = make_case(MADE_UP, sample_of(records, studies=[]))
    found = trust(case, np.array([estimate]), has_context=has_context)
    return found.num_jobs, found.out_of_memory, found.too_large


def test_the_smallest_card_that_is_said_to_be_enough_is_bought() -> None:
    assert some_trust(5 * GIB, allocated=20 * GIB) == (1, 1.0, 0.0)
    assert some_trust(21 * GIB, allocated=20 * GIB) == (1, 0.0, 0.0)
    assert some_trust(70 * GIB, allocated=20 * GIB) == (1, 0.0, 1.0)
    assert some_trust(10**15, allocated=20 * GIB)[0] == 0


def test_jobs_that_failed_are_let_through_by_an_estimate_that_is_too_small() -> None:
    records = [
        a_measured_job(a_job(method="full"), allocated=8 * GIB),
        a_measured_job(a_job(method="full", batch_size=64), allocated=20 * GIB, outcome=OUT_OF_MEMORY),
    ]
    case = make_case(MADE_UP, sample_of(records, studies=[]))
    for estimate, expected in ((10 * GIB, 1.0), (30 * GIB, 0.0)):
        found = trust(case, np.array([9 * GIB, estimate], dtype=float), has_context=False)
        assert (found.num_failed, found.let_through) == (1, expected)


def test_a_score_is_of_relative_errors() -> None:
    found = score(np.array([110.0, 80.0, 100.0]), np.array([100, 100, 100]))
    assert found.num_jobs == 3
    assert found.median == pytest.approx(0.1)
    assert found.bias == pytest.approx((0.1 - 0.2) / 3)
    assert found.p95 == pytest.approx(0.19)
