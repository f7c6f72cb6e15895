from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.estimate.apply import Band, correct
from profiler.estimate.card import card_of
from profiler.estimate.estimate import Estimate, estimate_job
from profiler.estimate.evaluate import evaluate_group, group_jobs
from profiler.estimate.factors import (
    Correction,
    Factor,
    FactorGroup,
    FormulaFactors,
    IntervalGroup,
    default_factors,
)
from profiler.estimate.frame import estimate_frame
from profiler.formula.breakdown import Breakdown, Instant
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.keys import flatten
from profiler.units import MIB
from tests.builders import a_job
from tests.unit.fit.made_up import MADE_UP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.estimate.factors import Where

LORA: Where = {"method": "lora"}


def a_factor_group(factors: Mapping[str, float], where: Where | None = None) -> FactorGroup:
    found = {term: Factor(value=value, low=value, high=value) for term, value in factors.items()}
    return FactorGroup(where=where or {}, factors=found, num_records=1, num_models=1)


def a_part(*groups: FactorGroup, interval: tuple[float, float] = (0.9, 1.2)) -> Correction:
    every = IntervalGroup(where={}, low=interval[0], high=interval[1], num_records=100)
    return Correction(factors=groups, intervals=(every,))


def some_factors(allocated: Mapping[str, float]) -> FormulaFactors:
    return FormulaFactors(
        allocated=a_part(a_factor_group(allocated)),
        reserved_gap=a_part(a_factor_group({"activations": 0.5, "constant": 3.0}), interval=(0.8, 1.5)),
        device_gap=a_part(a_factor_group({"context": 1.0, "constant": 2.0}), interval=(0.7, 1.6)),
    )


def two_instants(weights: int = 1000, activations: int = 500, states: int = 400) -> Breakdown:
    return Breakdown(
        instants=(
            Instant(name="backward", terms={"weights": weights, "activations": activations}),
            Instant(name="step", terms={"weights": weights, "optimizer": states}),
        )
    )


def test_every_term_is_corrected_wherever_it_stands() -> None:
    corrected = correct(
        two_instants(),
        factors=some_factors({"weights": 1.5, "activations": 2.0}),
        job=a_job(),
        context_bytes=100,
    )
    assert [dict(instant.terms) for instant in corrected.breakdown.instants] == [
        {"weights": 1500, "activations": 1000},
        {"weights": 1500, "optimizer": 400},
    ]
    assert corrected.allocated == Band(value_bytes=2500, low_bytes=2250, high_bytes=3000)


def test_the_gaps_come_on_top() -> None:
    corrected = correct(
        two_instants(), factors=some_factors({"weights": 1.0}), job=a_job(), context_bytes=100
    )
    reserved = 1500 + 250 + 3 * MIB
    assert corrected.reserved == Band(
        value_bytes=reserved, low_bytes=round(reserved * 0.8), high_bytes=round(reserved * 1.5)
    )
    assert corrected.device_used is not None
    assert corrected.device_used.value_bytes == reserved + 100 + 2 * MIB


def test_another_instant_may_win_after_correction() -> None:
    breakdown = two_instants()
    assert breakdown.peak.name == "backward"
    factors = some_factors({"activations": 0.1, "optimizer": 1.0})
    corrected = correct(breakdown, factors=factors, job=a_job(), context_bytes=None)
    assert corrected.breakdown.peak.name == "step"
    assert corrected.allocated.value_bytes == 1400


def test_without_factors_a_formula_is_as_it_is_published() -> None:
    corrected = correct(two_instants(), factors=None, job=a_job(), context_bytes=100)
    assert corrected.breakdown == two_instants()
    assert corrected.allocated == Band(value_bytes=1500)
    assert corrected.reserved is corrected.device_used is None


def test_a_card_whose_context_is_not_known_has_no_device_figure() -> None:
    corrected = correct(two_instants(), factors=some_factors({}), job=a_job(), context_bytes=None)
    assert corrected.reserved is not None
    assert corrected.device_used is None


@pytest.mark.parametrize(("method", "expected"), [("lora", 3500), ("full", 1500)])
def test_the_group_of_the_job_decides(method: str, expected: int) -> None:
    part = a_part(a_factor_group({"weights": 1.0}), a_factor_group({"weights": 3.0}, LORA))
    factors = FormulaFactors(allocated=part)
    corrected = correct(two_instants(), factors=factors, job=a_job(method=method), context_bytes=100)
    assert corrected.allocated.value_bytes == expected
    assert corrected.reserved is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 64), st.sampled_from([1, 100, 2048, 8192])), min_size=1, max_size=5),
    st.fixed_dictionaries(dict.fromkeys(("weights", "activations", "optimizer"), st.floats(0, 3))),
)
def test_many_jobs_are_corrected_as_each_alone(
    shapes: list[tuple[int, int]], values: dict[str, float]
) -> None:
    jobs = [a_job(method="full", batch_size=batch_size, seq_len=seq_len) for batch_size, seq_len in shapes]
    factors = some_factors(values)

    def corrected(specs: list[object]) -> list[list[int]]:
        [group] = group_jobs(specs)  # type: ignore[arg-type]
        breakdown = evaluate_group(MADE_UP, group)
        assert isinstance(breakdown, Breakdown)
        found = correct(breakdown, factors=factors, job=group.job, context_bytes=100)
        assert found.reserved is not None
        assert found.device_used is not None
        bands = (found.allocated, found.reserved, found.device_used)
        ends = [(band.low_bytes, band.value_bytes, band.high_bytes) for band in bands]
        columns = [np.broadcast_to(np.asarray(end), len(specs)) for band in ends for end in band]
        return np.stack(columns, axis=1).tolist()  # type: ignore[no-any-return]

    assert corrected(list(jobs)) == [row for job in jobs for row in corrected([job])]


BANDS = ("allocated", "reserved", "device_used")
factor_values = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 3)
ends = st.tuples(st.floats(0.3, 1), st.floats(1, 3))


@st.composite
def random_factors(draw: st.DrawFn) -> FormulaFactors:
    """Factors that no records have, with intervals that know nothing of each other."""

    def part(*names: str) -> Correction:
        return a_part(a_factor_group({name: draw(factor_values) for name in names}), interval=draw(ends))

    terms = ("weights", "activations", "optimizer", "block", "logits_and_loss", "saved_activations")
    return FormulaFactors(
        allocated=part(*terms), reserved_gap=part(*terms, "constant"), device_gap=part("context", "constant")
    )


@settings(deadline=None)
@given(
    st.sampled_from(["full", "lora", "qlora", "int8-lora", "inference"]),
    st.lists(st.tuples(st.integers(1, 64), st.sampled_from([1, 100, 2048, 8192])), min_size=1, max_size=4),
    random_factors(),
    st.sampled_from(list(load_catalogue())),
)
def test_no_figure_is_below_one_that_it_holds(
    method: str, shapes: list[tuple[int, int]], factors: FormulaFactors, gpu: str
) -> None:
    jobs = [
        a_job(model="smollm2-135m", method=method, gpu=gpu, batch_size=batch_size, seq_len=seq_len)
        for batch_size, seq_len in shapes
    ]
    file = default_factors().model_copy(update={"formulas": {PEAKVRAM.id: factors}})
    frame = estimate_frame(
        pd.DataFrame([flatten(job.model_dump(mode="json")) for job in jobs]), formula=PEAKVRAM, factors=file
    )
    for job, (_, row) in zip(jobs, frame.iterrows(), strict=True):
        alone = estimate_job(job, formula=PEAKVRAM, factors=file, card=card_of(job))
        assert isinstance(alone, Estimate)
        bands = [getattr(alone.corrected, name) for name in BANDS]
        for end in ("low", "value", "high"):
            figures = [getattr(band, f"{end}_bytes") for band in bands]
            assert figures == sorted(figures), end
            columns = [f"estimate.{name}_{end}_bytes".replace("_value", "") for name in BANDS]
            assert [row[column] for column in columns] == figures, end
        for band in bands:
            assert band.low_bytes <= band.value_bytes <= band.high_bytes
