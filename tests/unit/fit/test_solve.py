from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from profiler.fit.solve import corrected_totals, record_weights, solve
from tests.unit.fit.made_up import a_design

NUM_TERMS = 3
ALL = np.ones(NUM_TERMS, dtype=bool)


def shares(num_instants: int) -> st.SearchStrategy[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Shares of 40 records, drawn by a seed: hypothesis' own floats would be nearly all alike."""
    return st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).uniform(0.05, 1, size=(40, num_instants, NUM_TERMS))
    )


factor_lists = st.lists(st.floats(0.2, 3), min_size=NUM_TERMS, max_size=NUM_TERMS).map(np.array)


@settings(deadline=None)  # the first call loads scipy
@given(shares(1), factor_lists)
def test_known_factors_are_found_again(terms: np.ndarray, factors: np.ndarray) -> None:
    target = corrected_totals(terms, factors)
    design = a_design(terms / target[:, None, None])
    np.testing.assert_allclose(solve(design, is_free=ALL), factors, rtol=0.01, atol=0.01)


@settings(deadline=None)  # the first call loads scipy
@given(shares(3), factor_lists)
def test_several_instants_are_fitted_as_well_as_one(terms: np.ndarray, factors: np.ndarray) -> None:
    target = corrected_totals(terms, factors)
    design = a_design(terms / target[:, None, None])
    before = np.abs(corrected_totals(design.shares, design.neutral) - 1).mean()
    after = np.abs(corrected_totals(design.shares, solve(design, is_free=ALL)) - 1).mean()
    assert after <= min(before, 0.01) or before < 1e-9


@settings(deadline=None)  # the first call loads scipy
@given(shares(2), arrays(float, 40, elements=st.floats(0, 2)))
def test_no_factor_is_below_0(terms: np.ndarray, target: np.ndarray) -> None:
    assert solve(a_design(terms, target=target), is_free=ALL).min() >= 0


@settings(deadline=None)  # the first call loads scipy
@given(shares(2), arrays(float, 40, elements=st.floats(0.5, 2)), st.integers(0, NUM_TERMS - 1))
def test_a_factor_that_is_not_free_stays_as_it_is(terms: np.ndarray, target: np.ndarray, held: int) -> None:
    is_free = np.arange(NUM_TERMS) != held
    assert solve(a_design(terms, target=target), is_free=is_free)[held] == 1.0
    assert solve(a_design(terms, target=target, neutral=0.0), is_free=is_free)[held] == 0.0


def test_a_term_that_no_record_has_is_pulled_to_1() -> None:
    terms = np.random.default_rng(1).uniform(0.2, 1, size=(40, 1, NUM_TERMS))
    terms[:, :, 2] = 0
    assert solve(a_design(terms), is_free=ALL)[2] == 1.0


def test_a_few_records_that_nothing_explains_do_not_bend_the_factors() -> None:
    terms = np.random.default_rng(2).uniform(0.2, 1, size=(60, 1, NUM_TERMS))
    factors = np.array([0.5, 1.5, 2.0])
    target = corrected_totals(terms, factors)
    terms /= target[:, None, None]
    terms[:4] /= 10  # these take ten times what the terms say
    design = a_design(terms)
    found = solve(design, is_free=ALL)
    np.testing.assert_allclose(found, factors, rtol=0.02)
    weights = record_weights(design, found)
    assert weights[:4].max() < 0.01 < weights[4:].min()
