from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.estimate.factors import most_specific
from profiler.fit.intervals import Ratios, fit_intervals, held_out_intervals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from profiler.estimate.factors import Where

CHECKPOINTED: Where = {"method": "full", "checkpointing": True, "attention": "sdpa"}
PLAIN: Where = {"method": "full", "checkpointing": False, "attention": "sdpa"}


def some_ratios(*, num_models: int = 8, each: int = 60, between: float = 0.0, seed: int = 0) -> Ratios:
    """Ratios around 1: 2 % off within a model, `between` off from model to model."""
    generator = np.random.default_rng(seed)
    models = np.repeat([f"model {number}" for number in range(num_models)], each)
    offsets = np.repeat(generator.normal(0, between, num_models), each)
    values = 1 + offsets + generator.normal(0, 0.02, len(models))
    conditions = tuple(CHECKPOINTED if number % 2 else PLAIN for number in range(len(models)))
    studies = np.full(len(models), "grid")
    return Ratios(values=values, models=models, studies=studies, conditions=conditions)


def held(ratios: Ratios, *, rows: NDArray[np.bool_] | None = None) -> float:
    """How many of the records, or of some of them, lie in intervals made without their model."""
    low, high = held_out_intervals(ratios, labels=ratios.models)
    is_held = (low <= ratios.values) & (ratios.values <= high)
    return float(is_held.mean() if rows is None else is_held[rows].mean())


def test_intervals_hold_about_90_percent() -> None:
    every, *groups = fit_intervals(some_ratios())
    assert every.where == {}
    assert [group.where for group in groups] == [
        {"method": "full", "checkpointing": False},
        {"method": "full", "checkpointing": True},
    ]
    assert [group.num_records for group in (every, *groups)] == [480, 240, 240]
    for group in (every, *groups):
        assert group.low == pytest.approx(1 - 1.645 * 0.02, abs=0.01)
        assert group.high == pytest.approx(1 + 1.645 * 0.02, abs=0.01)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100))
def test_models_that_differ_get_intervals_wide_enough_for_one_more(seed: int) -> None:
    assert held(some_ratios(num_models=12, each=40, between=0.03, seed=seed)) >= 0.8


def test_a_group_whose_errors_are_larger_gets_a_wider_interval() -> None:
    ratios = some_ratios()
    is_checkpointed = np.array([where["checkpointing"] for where in ratios.conditions])
    values = np.where(is_checkpointed, 1 + 10 * (ratios.values - 1), ratios.values)
    groups = fit_intervals(replace(ratios, values=values))
    wide, narrow = most_specific(groups, CHECKPOINTED), most_specific(groups, PLAIN)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_an_interval_holds_the_records_of_a_small_study_as_often_as_those_of_a_large_one() -> None:
    ratios = some_ratios()
    is_small = np.arange(len(ratios.values)) % 12 < 2  # of each model and group a sixth
    values = np.where(is_small, 1 + 10 * (ratios.values - 1), ratios.values)
    together = replace(ratios, values=values)
    apart = replace(together, studies=np.where(is_small, "random", "grid"))
    assert held(apart, rows=is_small) >= 0.85
    assert held(together, rows=is_small) < 0.6, "the large one speaks for both"


def test_a_record_is_judged_by_the_others_alone() -> None:
    ratios = some_ratios(num_models=4)
    values = ratios.values.copy()
    values[ratios.models == "model 0"] *= 2
    changed = replace(ratios, values=values)
    low, high = held_out_intervals(changed, labels=changed.models)
    rows = changed.models == "model 0"
    assert (high[rows] < 1.2).all()  # it does not see itself
    assert (high[~rows] > 1.8).any()  # but the others see it
    assert not ((low <= values) & (values <= high))[rows].any()


def test_records_that_do_not_tell_get_an_interval_too() -> None:
    ratios = some_ratios()
    values = ratios.values.copy()
    values[::3] = np.nan
    told = replace(ratios, values=values)
    low, high = held_out_intervals(told, labels=told.models)
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()
    assert fit_intervals(told)[0].num_records == 320


def test_few_records_give_their_whole_range() -> None:
    ratios = some_ratios(num_models=3, each=4)
    [every] = fit_intervals(ratios)
    ends = [every.low, every.high]
    assert ends == pytest.approx([ratios.values.min(), ratios.values.max()], rel=1e-5)
