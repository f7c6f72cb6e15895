from __future__ import annotations

from functools import cache

import pandas as pd
import pytest

from profiler.estimate.factors import default_factors
from profiler.estimate.frame import estimate_frame
from profiler.formula.own.peakvram import PEAKVRAM
from tests.builders import ROOT

RESULTS = ROOT / "results"
STUDIES = ["rtx-4090", "a100-80gb"]


@cache
def judged(study: str) -> pd.DataFrame:
    """How each job of a study ended, and what the shipped factors say of it beforehand."""
    records = pd.read_parquet(RESULTS / study / "records.parquet")
    records = records[records["outcome.status"].isin(["ok", "oom"])]
    estimates = estimate_frame(records, formula=PEAKVRAM, factors=default_factors())
    return records.join(estimates)


def outcomes(study: str, fits: str) -> set[str]:
    frame = judged(study)
    return set(frame[frame["estimate.fits"] == fits]["outcome.status"])


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_no_job_that_was_said_to_fit_ran_out_of_memory(study: str) -> None:
    assert outcomes(study, "yes") == {"ok"}


@pytest.mark.parametrize("study", STUDIES)
def test_no_job_that_was_said_not_to_fit_did(study: str) -> None:
    assert outcomes(study, "no") == {"oom"}


@pytest.mark.parametrize("study", STUDIES)
def test_few_jobs_are_left_in_doubt(study: str) -> None:
    frame = judged(study)
    assert frame["estimate.fits"].isin(["yes", "no"]).mean() > 0.9


@pytest.mark.parametrize("study", STUDIES)
def test_the_interval_of_device_use_holds_nine_in_ten(study: str) -> None:
    frame = judged(study)
    # A job near the card's capacity holds less than it would like to: it is no case of the interval.
    frame = frame[(frame["outcome.status"] == "ok") & (frame["num_alloc_retries"] == 0)]
    used = frame["peak.device_used_bytes"]
    is_within = used.between(
        frame["estimate.device_used_low_bytes"], frame["estimate.device_used_high_bytes"]
    )
    assert is_within.mean() >= 0.9
