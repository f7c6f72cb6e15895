from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from profiler.fit.groups import choose_grouping, fit_groups, predict
from tests.unit.fit.made_up import a_design

if TYPE_CHECKING:
    from profiler.estimate.factors import Where
    from profiler.fit.solve import Design

NUM_MODELS = 6
OWNERS = np.repeat(np.arange(NUM_MODELS), 20)
LORA: Where = {"method": "lora", "checkpointing": True, "attention": "sdpa"}
FULL: Where = {"method": "full", "checkpointing": True, "attention": "sdpa"}
CONDITIONS = [LORA if number % 2 else FULL for number in range(len(OWNERS))]
IS_LORA = np.arange(len(OWNERS)) % 2 == 1
TERMS = ("a", "b")


def a_grouped_design(*, full: list[float], lora: list[float]) -> Design:
    """Records of two methods, the terms of each with their own factors, off by a percent."""
    generator = np.random.default_rng(4)
    terms = generator.uniform(0.2, 1, size=(len(OWNERS), 1, 2))
    target = np.where(IS_LORA, (terms @ lora)[:, 0], (terms @ full)[:, 0])
    target *= 1 + 0.01 * generator.standard_normal(len(target))
    return a_design(terms / target[:, None, None], owners=OWNERS, conditions=CONDITIONS)


def test_groups_that_differ_get_factors_of_their_own() -> None:
    design = a_grouped_design(full=[1.0, 2.0], lora=[3.0, 0.5])
    by, reason = choose_grouping(design, terms=TERMS)
    assert by == ("method",)
    assert reason.startswith("groups by method: ")
    every, *groups = fit_groups(design, by=by, terms=TERMS)
    assert every.where == {}
    assert {group.where["method"]: group.found.values.round(1).tolist() for group in groups} == {
        "full": [1.0, 2.0],
        "lora": [3.0, 0.5],
    }
    np.testing.assert_allclose(predict(design, (every, *groups)), 1, atol=0.05)


def test_groups_that_are_alike_stay_one() -> None:
    by, reason = choose_grouping(a_grouped_design(full=[1.5, 2.0], lora=[1.5, 2.0]), terms=TERMS)
    assert by == ()
    assert reason.startswith("one group: ")


def test_where_no_factor_helps_all_are_left_at_1() -> None:
    generator = np.random.default_rng(5)
    noise = np.exp(generator.standard_normal(NUM_MODELS))[OWNERS]  # each model is off in its own way
    shares = np.full((len(OWNERS), 1, 2), 0.5) * noise[:, None, None] / np.median(noise)
    design = a_design(shares, owners=OWNERS, conditions=CONDITIONS)
    by, reason = choose_grouping(design, terms=TERMS)
    assert by is None
    assert reason.startswith("no factors: ")
    [every] = fit_groups(design, by=by, terms=TERMS)
    assert every.found.values.tolist() == [1.0, 1.0]
    assert set(every.found.reasons) == {"fitting does not lower the error on models left out"}


def test_a_group_of_few_models_goes_with_all() -> None:
    design = a_grouped_design(full=[1.0, 2.0], lora=[3.0, 0.5])
    rows = ~(IS_LORA & (OWNERS > 2))  # LoRA jobs of three models are left
    [every, full] = fit_groups(design.of(rows), by=("method",), terms=TERMS)
    assert (every.where, full.where) == ({}, {"method": "full"})
    assert (full.num_records, full.num_models) == (60, 6)
    told = every.as_group(TERMS)
    assert (told.num_records, told.num_models) == (90, 6)


def test_the_most_specific_group_predicts() -> None:
    design = a_grouped_design(full=[1.0, 2.0], lora=[3.0, 0.5])
    groups = fit_groups(design, by=("method",), terms=TERMS, num_resamples=0)
    together = fit_groups(design, by=(), terms=TERMS, num_resamples=0)
    errors = [np.abs(predict(design, fits) - 1).mean() for fits in (groups, together)]
    assert errors[0] == pytest.approx(0.01, abs=0.005)
    assert errors[1] > 0.1
