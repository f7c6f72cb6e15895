from __future__ import annotations

import pytest

from profiler.estimate.card import card_of
from profiler.estimate.estimate import Fits, estimate_job
from profiler.estimate.factors import default_factors
from profiler.estimate.plan import PlannedJob
from profiler.formula.catalogue import find_formula
from profiler.records.schema import Outcome, OutcomeStatus
from tests.builders import a_job, a_record

OOM = Outcome(status=OutcomeStatus.OOM)


@pytest.mark.parametrize(
    ("seq_len", "fits", "outcome", "is_contradicted"),
    [
        (1024, Fits.YES, OOM, True),
        (1024, Fits.YES, Outcome(status=OutcomeStatus.OK), False),
        (1024, Fits.YES, Outcome(status=OutcomeStatus.TIMEOUT), False),
        (65536, Fits.NO, OOM, False),
        (65536, Fits.NO, Outcome(status=OutcomeStatus.OK), True),
        (65536, Fits.NO, None, False),
    ],
)
def test_a_record_may_say_otherwise_than_the_estimate_of_its_job(
    seq_len: int, fits: Fits, outcome: Outcome | None, is_contradicted: bool
) -> None:
    spec = a_job(seq_len=seq_len)
    formula, factors = find_formula("peakvram"), default_factors()
    estimate = estimate_job(spec, formula=formula, factors=factors, card=card_of(spec))
    record = None if outcome is None else a_record(spec=spec, outcome=outcome)
    job = PlannedJob(spec=spec, record=record, estimate=estimate)
    assert getattr(getattr(estimate, "verdict", None), "fits", None) is fits
    assert job.is_contradicted is is_contradicted
