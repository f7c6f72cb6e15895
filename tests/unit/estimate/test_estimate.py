from __future__ import annotations

import pytest

from profiler.errors import ConfigError
from profiler.estimate.apply import Band, Corrected
from profiler.estimate.card import Card, card_of
from profiler.estimate.estimate import Estimate, Fits, Refusal, estimate_job, estimate_jobs, judge
from profiler.formula.breakdown import Breakdown, Instant
from profiler.formula.configs import architecture_of
from profiler.units import GIB, MIB
from tests.builders import a_job
from tests.unit.fit.by_hand import a_formula, factors_of_the_formula, some_factors

CARD = Card(id="c", name="Card", total_bytes=24 * GIB, context_bytes=GIB, reason="asked for")
NOTHING = Breakdown(instants=(Instant(name="peak", terms={"all": 0}),))


def band(value: float, *, low: float = 0, high: float = 0) -> Band:
    ends = (round((end or value) * GIB) for end in (low, high))
    return Band(value_bytes=round(value * GIB), low_bytes=next(ends), high_bytes=next(ends))


def corrected(allocated: Band, *, reserved: Band | None = None, device: Band | None = None) -> Corrected:
    return Corrected(breakdown=NOTHING, allocated=allocated, reserved=reserved, device_used=device)


@pytest.mark.parametrize(
    ("allocated", "device", "fits", "reason"),
    [
        (band(18, low=17), band(20, high=24), Fits.YES, "at the high end of the interval 0 B free"),
        (band(20, low=19), band(24, high=24.5), Fits.LIKELY, "512.00 MiB too much"),
        (band(22, low=21), band(25, low=23, high=26), Fits.UNLIKELY, "do with less than it would keep"),
        (band(23.5, low=23), band(26, high=27), Fits.UNLIKELY, "do with less than it would keep"),
        (band(24, low=23.1), band(26, high=27), Fits.NO, "tensors and CUDA context alone"),
    ],
)
def test_the_interval_decides_how_sure_a_verdict_is(
    allocated: Band, device: Band, fits: Fits, reason: str
) -> None:
    verdict = judge(corrected(allocated, reserved=device, device=device), CARD, formula=a_formula())
    assert verdict.fits is fits
    assert verdict.room_bytes == CARD.total_bytes - device.value_bytes
    assert reason in verdict.reason


def test_a_bare_formula_is_never_sure_and_says_what_it_counts() -> None:
    allocated = Band(value_bytes=2 * GIB)
    verdict = judge(corrected(allocated), CARD, formula=a_formula(predicts="the weights alone"))
    assert (verdict.fits, verdict.room_bytes) == (Fits.LIKELY, 22 * GIB)
    assert verdict.reason == "the bare formula gives the weights alone"
    above = judge(corrected(Band(value_bytes=25 * GIB)), CARD, formula=a_formula())
    assert (above.fits, above.room_bytes) == (Fits.UNLIKELY, -GIB)


def test_on_a_card_whose_context_is_not_known_reserved_memory_is_judged() -> None:
    verdict = judge(corrected(band(10), reserved=band(23)), CARD, formula=a_formula())
    assert (verdict.fits, verdict.room_bytes) == (Fits.LIKELY, GIB)
    assert "CUDA context comes on top" in verdict.reason


def test_an_estimate_is_the_formula_times_its_factors() -> None:
    spec = a_job(method="lora", seq_len=512)
    estimate = estimate_job(spec, formula=a_formula(), factors=some_factors(), card=card_of(spec))
    assert isinstance(estimate, Estimate)
    weights = 2 * architecture_of("llama-3.1-8b").num_parameters
    logits = 4 * 128_256 * 512
    assert estimate.breakdown.peak.terms == {"weights": weights, "logits": logits}
    peak = estimate.corrected.breakdown.peak
    assert (peak.name, peak.terms) == ("loss", {"weights": round(1.1 * weights), "logits": logits})
    assert estimate.corrected.allocated.value_bytes == peak.total_bytes
    reserved = estimate.corrected.reserved
    assert reserved is not None
    kept = 2 * 32 * 4096 * 512
    assert reserved.value_bytes == round(1.1 * weights) + logits + 100 * MIB + round(0.05 * kept)


def test_without_factors_the_formula_is_left_as_it_is() -> None:
    spec = a_job(method="lora")
    estimate = estimate_job(spec, formula=a_formula(), factors=None, card=card_of(spec))
    assert isinstance(estimate, Estimate)
    assert estimate.corrected.breakdown == estimate.breakdown
    assert estimate.corrected.allocated.low_bytes is None
    assert estimate.corrected.device_used is None


def test_factors_of_another_formula_are_not_used() -> None:
    spec = a_job()
    others = some_factors(other=factors_of_the_formula())
    estimate = estimate_job(spec, formula=a_formula(), factors=others, card=card_of(spec))
    assert estimate == estimate_job(spec, formula=a_formula(), factors=None, card=card_of(spec))


def test_a_job_that_a_formula_does_not_speak_of_is_refused_with_the_reason() -> None:
    spec = a_job(method="full")
    refusal = estimate_job(spec, formula=a_formula(), factors=None, card=card_of(spec))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "it speaks of adapters only"


def test_one_unknown_model_or_card_among_many_jobs_does_not_stop_the_others() -> None:
    specs = [a_job(), a_job(model="llama-9"), a_job(gpu="rtx-4080x"), a_job(seq_len=1024)]
    estimates = estimate_jobs(specs, formula=a_formula(), factors=some_factors())
    assert [estimate.spec for estimate in estimates] == specs
    assert [isinstance(estimate, Estimate) for estimate in estimates] == [True, False, False, True]
    reasons = [estimate.reason for estimate in estimates if isinstance(estimate, Refusal)]
    assert reasons == ["unknown model 'llama-9'", "unknown GPU 'rtx-4080x'"]
    with pytest.raises(ConfigError, match="unknown model"):
        estimate_job(specs[1], formula=a_formula(), factors=None, card=CARD)
