from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.fit.determine import determine, one_quantity
from tests.unit.fit.made_up import a_design

NUM_MODELS = 6
OWNERS = np.repeat(np.arange(NUM_MODELS), 10)
TERMS = ("a", "b", "c")


def some_terms(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, size=(len(OWNERS), 1, 3))


def a_fit(terms: np.ndarray, factors: list[float], *, noise: float = 0.0) -> dict[str, object]:
    target = (terms @ np.array(factors)).max(axis=1)
    target *= 1 + noise * np.random.default_rng(9).standard_normal(len(target))
    design = a_design(terms / target[:, None, None], owners=OWNERS)
    return dict(determine(design, terms=TERMS).as_factors(TERMS))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.3, 3), min_size=3, max_size=3))
def test_what_the_records_determine_is_within_its_interval(factors: list[float]) -> None:
    found = determine(
        a_design(some_terms() / (some_terms() @ np.array(factors)).max(axis=1)[:, None, None], owners=OWNERS),
        terms=TERMS,
    )
    assert found.reasons == ("", "", "")
    np.testing.assert_allclose(found.values, factors, rtol=0.01)
    assert (found.low <= found.values).all()
    assert (found.values <= found.high).all()


def test_terms_in_one_ratio_get_one_factor() -> None:
    terms = some_terms()
    terms[:, :, 1] = 3 * terms[:, :, 0]
    found = a_fit(terms, [2.0, 2.0, 0.5])
    assert found["a"] == found["b"]
    assert found["a"].status == "fitted"  # type: ignore[attr-defined]
    assert found["a"].value == pytest.approx(2.0, rel=0.01)  # type: ignore[attr-defined]
    assert found["c"].value == pytest.approx(0.5, rel=0.02)  # type: ignore[attr-defined]


def test_terms_that_cannot_be_told_apart_are_left_at_1_and_named() -> None:
    terms = some_terms()
    wobble = np.random.default_rng(3).uniform(0.97, 1.03, size=terms[:, :, 0].shape)
    terms[:, :, 1] = terms[:, :, 0] * wobble
    found = determine(
        a_design(
            terms
            / ((terms.sum(axis=2).max(axis=1)) * (1 + 0.05 * np.random.default_rng(9).standard_normal(60)))[
                :, None, None
            ],
            owners=OWNERS,
        ),
        terms=TERMS,
    )
    [left] = [number for number, reason in enumerate(found.reasons) if reason]
    assert found.values[left] == 1.0
    assert "in these records it moves with" in found.reasons[left]
    assert found.reasons[left].endswith({"a": "b", "b": "a"}[TERMS[left]])


def test_a_term_that_never_matters_is_left_at_1() -> None:
    terms = some_terms()
    terms[:, :, 2] *= 1e-3
    found = determine(a_design(terms, owners=OWNERS), terms=TERMS)
    assert (found.values[2], found.reasons[2]) == (1.0, "never 0.5% of the figure in these records")


def test_a_term_of_two_models_is_left_at_1() -> None:
    terms = some_terms()
    terms[OWNERS > 1, :, 2] = 0
    found = determine(a_design(terms, owners=OWNERS), terms=TERMS)
    assert (found.values[2], found.reasons[2]) == (1.0, "only 2 of the models have enough of it")


def test_the_same_records_give_the_same_factors() -> None:
    assert a_fit(some_terms(), [0.7, 1.0, 2.0], noise=0.1) == a_fit(some_terms(), [0.7, 1.0, 2.0], noise=0.1)


def test_noise_widens_an_interval() -> None:
    exact, noisy = (a_fit(some_terms(), [2.0, 3.0, 2.0], noise=noise) for noise in (0.0, 0.1))
    for term in TERMS:
        narrow, wide = exact[term], noisy[term]
        assert wide.high - wide.low > narrow.high - narrow.low  # type: ignore[attr-defined]


def test_terms_that_no_record_has_are_one_quantity_each() -> None:
    terms = some_terms()
    terms[:, :, 1:] = 0
    assert one_quantity(a_design(terms)).tolist() == [0, 1, 2]
