from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.evidence.claims.documents import Claimed, Runs
from profiler.evidence.claims.jobs import jobs_of
from profiler.evidence.claims.judge import ClaimVerdict, judge_claim, verdict_of
from profiler.jobs.identity import job_key
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName, Record
from profiler.units import GIB, MIB
from tests.builders import OK, a_phase, a_record, a_report
from tests.unit.evidence.claims.claims_data import GRID, RUNS, a_claim, a_set

CONTEXT = 426 * MIB
sizes = st.integers(min_value=0, max_value=10**13)


def run_of(evidence: dict[str, Any], *, peaks: list[int], outcome: Outcome = OK) -> dict[str, Record]:
    """Records of a claim's jobs, each with its own peak."""
    jobs = jobs_of(Runs.model_validate(evidence), {"two": GRID})
    records = {}
    for job, peak in zip(jobs, peaks, strict=True):
        phases = (a_phase(PhaseName.CONTEXT, end=0), a_phase(PhaseName.FORWARD, 0, end=peak))
        record = a_record(spec=job, report=a_report(phases), outcome=outcome)
        records[job_key(job)] = record
    return records


@given(claimed=sizes, found=st.lists(sizes, min_size=1), tolerance=st.floats(min_value=0, max_value=1))
def test_exactly_one_verdict_fits_and_by_its_own_rule(
    claimed: int, found: list[int], tolerance: float
) -> None:
    low, high = claimed * (1 - tolerance), claimed * (1 + tolerance)
    expected = {
        ClaimVerdict.HOLDS: min(found) >= low and max(found) <= high,
        ClaimVerdict.TOO_LOW: min(found) > high,
        ClaimVerdict.TOO_HIGH: max(found) < low,
    }
    verdict = verdict_of(Claimed(low=claimed, high=claimed), found, tolerance=tolerance)
    assert [kind for kind, is_so in expected.items() if is_so] == (
        [] if verdict is ClaimVerdict.DEPENDS else [verdict]
    )


@given(low=sizes, width=sizes, found=st.lists(sizes, min_size=1))
def test_figures_inside_a_range_hold_whatever_their_order(low: int, width: int, found: list[int]) -> None:
    claimed = Claimed(low=low, high=low + width)
    inside = [low + size % (width + 1) for size in found]
    assert verdict_of(claimed, inside, tolerance=0) is ClaimVerdict.HOLDS
    assert verdict_of(claimed, inside[::-1], tolerance=0) is ClaimVerdict.HOLDS


@given(found=st.lists(sizes, min_size=1), low=sizes)
def test_an_open_end_is_never_too_low(found: list[int], low: int) -> None:
    assert verdict_of(Claimed(low=low), found, tolerance=0) is not ClaimVerdict.TOO_LOW
    assert verdict_of(Claimed(high=low), found, tolerance=0) is not ClaimVerdict.TOO_HIGH


@given(found=st.lists(sizes, min_size=1), claimed=sizes, other=sizes)
def test_one_more_figure_can_only_keep_a_verdict_or_make_it_depend(
    found: list[int], claimed: int, other: int
) -> None:
    range_ = Claimed(low=claimed, high=claimed)
    before = verdict_of(range_, found, tolerance=0.1)
    assert verdict_of(range_, [*found, other], tolerance=0.1) in {before, ClaimVerdict.DEPENDS}


def test_a_figure_on_the_edge_of_the_tolerance_holds() -> None:
    ten = Claimed(low=100, high=100)
    assert verdict_of(ten, [90, 110], tolerance=0.1) is ClaimVerdict.HOLDS
    assert verdict_of(ten, [89], tolerance=0.1) is ClaimVerdict.TOO_HIGH
    assert verdict_of(ten, [112], tolerance=0.1) is ClaimVerdict.TOO_LOW
    assert verdict_of(ten, [100, 112], tolerance=0.1) is ClaimVerdict.DEPENDS


def test_arithmetic_is_judged_without_any_record() -> None:
    judgement = judge_claim(a_claim(), a_set(), {})
    assert judgement.verdict is ClaimVerdict.HOLDS
    assert [found.value for found in judgement.found] == [2 * 6_738_415_616]
    assert judgement.found[0].where == "llama-2-7b: 6,738,415,616 parameters x 16 bits"
    assert judgement.kinds == ()


def test_a_claim_without_evidence_keeps_its_reason() -> None:
    claim = a_claim(claimed=None, evidence={"kind": "none", "reason": "About time."})
    judgement = judge_claim(claim, a_set(claim), {})
    assert (judgement.verdict, judgement.reason) == (ClaimVerdict.NOT_CHECKABLE, "About time.")


def test_runs_are_judged_by_the_figure_named() -> None:
    claim = a_claim(claimed=["20GiB", "22GiB"], evidence=RUNS)
    records = run_of(RUNS, peaks=[20 * GIB, 21 * GIB])
    judgement = judge_claim(claim, a_set(claim), records)
    assert judgement.verdict is ClaimVerdict.HOLDS
    assert [found.value for found in judgement.found] == [20 * GIB + CONTEXT, 21 * GIB + CONTEXT]
    assert [found.where for found in judgement.found] == ["tokens 512", "tokens 1024"]
    assert judgement.kinds == ("virtual",)
    assert judgement.highest is not None
    assert records[judgement.highest.keys[0]].spec.seq_len == 1024


def test_figures_on_both_sides_of_a_claim_depend() -> None:
    claim = a_claim(claimed="20GiB", evidence=RUNS)
    judgement = judge_claim(claim, a_set(claim), run_of(RUNS, peaks=[10 * GIB, 20 * GIB]))
    assert (judgement.verdict, judgement.num_inside) == (ClaimVerdict.DEPENDS, 1)


def test_a_claim_whose_jobs_have_no_record_is_not_run() -> None:
    claim = a_claim(claimed="20GiB", evidence=RUNS)
    records = run_of(RUNS, peaks=[10 * GIB, 20 * GIB])
    del records[next(iter(records))]
    judgement = judge_claim(claim, a_set(claim), records)
    assert judgement.verdict is ClaimVerdict.NOT_RUN
    assert judgement.reason == "1 of 2 figures are missing"


@pytest.mark.parametrize("status", [OutcomeStatus.OOM, OutcomeStatus.ERROR])
def test_a_job_that_did_not_end_well_says_nothing_of_an_amount(status: OutcomeStatus) -> None:
    claim = a_claim(claimed="20GiB", evidence=RUNS)
    records = run_of(RUNS, peaks=[GIB, GIB], outcome=Outcome(status=status))
    assert judge_claim(claim, a_set(claim), records).verdict is ClaimVerdict.NOT_RUN


@pytest.mark.parametrize(
    ("claimed", "status", "verdict"),
    [
        ("fits", OutcomeStatus.OK, ClaimVerdict.HOLDS),
        ("fits", OutcomeStatus.OOM, ClaimVerdict.TOO_LOW),
        ("does not fit", OutcomeStatus.OOM, ClaimVerdict.HOLDS),
        ("does not fit", OutcomeStatus.OK, ClaimVerdict.TOO_HIGH),
    ],
)
def test_out_of_memory_decides_whether_a_job_fits(
    claimed: str, status: OutcomeStatus, verdict: ClaimVerdict
) -> None:
    evidence = RUNS | {"figure": "fit"}
    claim = a_claim(claimed=claimed, tolerance=0, evidence=evidence)
    records = run_of(evidence, peaks=[GIB, 2 * GIB], outcome=Outcome(status=status))
    assert judge_claim(claim, a_set(claim), records).verdict is verdict


def test_a_job_that_holds_more_than_the_card_has_does_not_fit() -> None:
    evidence = RUNS | {"figure": "fit"}
    claim = a_claim(claimed="fits", evidence=evidence)
    judgement = judge_claim(claim, a_set(claim), run_of(evidence, peaks=[GIB, 24 * GIB]))
    assert [found.value for found in judgement.found] == [0, 1]
    assert judgement.verdict is ClaimVerdict.DEPENDS


def test_a_saving_is_told_from_a_job_and_its_counterpart() -> None:
    evidence = RUNS | {"figure": "allocated", "compare": "saving", "set": {"seq_len": 512}}
    evidence |= {"against": {"gradient_checkpointing": False}}
    claim = a_claim(claimed=25, evidence=evidence)
    with_checkpointing = run_of(RUNS | {"set": {"seq_len": 512}}, peaks=[3 * GIB])
    without = run_of(RUNS | {"set": {"seq_len": 512, "gradient_checkpointing": False}}, peaks=[4 * GIB])
    judgement = judge_claim(claim, a_set(claim), with_checkpointing | without)
    assert [found.value for found in judgement.found] == [25.0]
    assert judgement.found[0].keys == (next(iter(with_checkpointing)), next(iter(without)))
    assert judgement.verdict is ClaimVerdict.HOLDS


def test_an_exponent_is_told_from_two_lengths() -> None:
    evidence = RUNS | {"figure": "allocated", "compare": "exponent", "set": {"seq_len": 1024}}
    claim = a_claim(claimed=2, evidence=evidence | {"against": {"seq_len": 512}})
    records = run_of(RUNS, peaks=[GIB, 4 * GIB])
    judgement = judge_claim(claim, a_set(claim), records)
    assert [found.value for found in judgement.found] == [pytest.approx(2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": "tow"}, "there is no grid 'tow'"),
        ({"set": {"batch_size": 0}}, "batch_size"),
        ({"axes": {"batch_size": [1, 2]}, "set": {"batch_size": 1}}, "batch_size is swept twice"),
        ({"compare": "ratio"}, "its own counterpart"),
        ({"compare": "ratio", "against": {"batch_size": 0}}, "counterpart: batch_size"),
    ],
)
def test_jobs_that_are_none_are_refused(changes: dict[str, Any], message: str) -> None:
    claim = a_claim(evidence=RUNS | changes)
    with pytest.raises(ConfigError, match=message):
        judge_claim(claim, a_set(claim), {})
