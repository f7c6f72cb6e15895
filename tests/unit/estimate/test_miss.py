from __future__ import annotations

import pytest

from profiler.estimate.card import card_of
from profiler.estimate.estimate import Estimate, Fits, estimate_job, single
from profiler.estimate.factors import default_factors
from profiler.estimate.miss import Miss, miss_of
from profiler.formula.catalogue import find_formula
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName
from profiler.units import GIB
from tests.builders import OK, a_job, a_phase, a_record, a_report

OOM = Outcome(status=OutcomeStatus.OOM)


def an_estimate(seq_len: int, *, is_corrected: bool = True) -> Estimate:
    spec = a_job(seq_len=seq_len)
    factors = default_factors() if is_corrected else None
    estimated = estimate_job(spec, formula=find_formula("peakvram"), factors=factors, card=card_of(spec))
    assert isinstance(estimated, Estimate)
    return estimated


@pytest.mark.parametrize(
    ("seq_len", "fits", "outcome", "is_missed"),
    [
        (1024, Fits.YES, OOM, True),
        (1024, Fits.YES, Outcome(status=OutcomeStatus.TIMEOUT), False),
        (65536, Fits.NO, OOM, False),
        (65536, Fits.NO, OK, True),
    ],
)
def test_a_run_may_fit_where_its_estimate_does_not_and_the_reverse(
    seq_len: int, fits: Fits, outcome: Outcome, *, is_missed: bool
) -> None:
    estimate = an_estimate(seq_len)
    assert estimate.verdict.fits is fits
    miss = miss_of(estimate, a_record(spec=estimate.spec, outcome=outcome))
    assert miss is (Miss.VERDICT if is_missed else None)


@pytest.mark.parametrize(("beyond_bytes", "miss"), [(0, None), (1, Miss.PEAK)])
@pytest.mark.parametrize("end", ["low", "high"])
def test_a_peak_outside_the_interval_is_a_miss(end: str, beyond_bytes: int, miss: Miss | None) -> None:
    estimate = an_estimate(1024)
    allocated = estimate.corrected.allocated
    assert allocated.low_bytes is not None
    assert allocated.high_bytes is not None
    low, high = single(allocated.low_bytes), single(allocated.high_bytes)
    peak_bytes = low - beyond_bytes if end == "low" else high + beyond_bytes
    phase = a_phase(PhaseName.BACKWARD, 1, end=GIB, peak=peak_bytes)
    assert miss_of(estimate, a_record(spec=estimate.spec, report=a_report((phase,)))) is miss


def test_an_estimate_without_an_interval_misses_no_peak() -> None:
    estimate = an_estimate(1024, is_corrected=False)
    phase = a_phase(PhaseName.BACKWARD, 1, end=GIB, peak=GIB)
    assert miss_of(estimate, a_record(spec=estimate.spec, report=a_report((phase,)))) is None
