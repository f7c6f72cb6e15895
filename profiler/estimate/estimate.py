"""What a formula and its correction factors say of one job, and whether it fits its card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from profiler.errors import PeakvramError
from profiler.estimate.apply import Band, Corrected, correct
from profiler.estimate.card import Card, card_of
from profiler.formula.breakdown import Breakdown, Instant, refusal_of, shape_of
from profiler.formula.configs import architecture_of
from profiler.formula.runnable import check_runnable
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from profiler.estimate.factors import FactorFile
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Formula, Quantity
    from profiler.jobs.job import JobSpec

Given = TypeVar("Given")
Found = TypeVar("Found")

DEFAULT_FORMULA = "peakvram"
"""The id of the formula that is asked where none is named."""


class Fits(StrEnum):
    """Whether a job fits its card.

    `yes` and `no`: the whole interval lies on one side of the card's memory. `likely` and `unlikely`: the
    value does, its interval does not; or there is no interval.
    """

    YES = "yes"
    LIKELY = "likely"
    UNLIKELY = "unlikely"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a job fits.

    Attributes:
        fits: the answer.
        room_bytes: what of the card is left; below 0, what is missing.
        reason: what the answer rests on.
    """

    fits: Fits
    room_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one formula says of one job.

    Attributes:
        spec: the job.
        formula: the formula.
        breakdown: its own terms, in bytes, as its author gives it.
        corrected: the terms after correction, and what follows from them; its `breakdown.peak` is the
            instant that wins.
        card: the card the job is to run on.
        verdict: whether it fits there.
        notes: what it rests on besides.
    """

    spec: JobSpec
    formula: Formula
    breakdown: Breakdown
    corrected: Corrected
    card: Card
    verdict: Verdict
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one formula says nothing of one job."""

    spec: JobSpec
    formula: Formula
    reason: str


Estimated: TypeAlias = "Estimate | Refusal"


def estimate_job(spec: JobSpec, *, formula: Formula, factors: FactorFile | None, card: Card) -> Estimated:
    """What a formula says of a job; None for `factors` is the bare formula.

    Raises:
        ConfigError: if the job cannot run, the model is not known, or its shapes are not.
        EnvironmentUnfitError: if it cannot run with what is installed here.
    """
    check_runnable(spec)
    return _estimate(spec, architecture_of(spec.model), formula=formula, factors=factors, card=card)


def estimate_jobs(
    specs: Iterable[JobSpec], *, formula: Formula, factors: FactorFile | None
) -> list[Estimated]:
    """What a formula says of some jobs, in their order; nothing of what cannot run, or is not known."""
    architectures: dict[str, Architecture | str] = {}
    cards: dict[tuple[str, int | None], Card | str] = {}
    estimates: list[Estimated] = []
    for spec in specs:
        if spec.model not in architectures:
            architectures[spec.model] = or_reason(architecture_of, spec.model)
        if (spec.gpu, spec.gpu_memory_bytes) not in cards:
            cards[spec.gpu, spec.gpu_memory_bytes] = or_reason(card_of, spec)
        architecture, card = architectures[spec.model], cards[spec.gpu, spec.gpu_memory_bytes]
        if isinstance(card, str):
            estimates.append(Refusal(spec=spec, formula=formula, reason=card))
        elif isinstance(architecture, str):
            estimates.append(Refusal(spec=spec, formula=formula, reason=architecture))
        elif (reason := or_reason(check_runnable, spec)) is not None:
            estimates.append(Refusal(spec=spec, formula=formula, reason=reason))
        else:
            estimates.append(_estimate(spec, architecture, formula=formula, factors=factors, card=card))
    return estimates


def without_terms(estimated: Estimated) -> Estimated:
    """An estimate's figures, verdict and largest instant alone, where there are very many."""
    if not isinstance(estimated, Estimate):
        return estimated
    peak = Breakdown(instants=(Instant(name=estimated.corrected.breakdown.peak.name, terms={}),))
    corrected = replace(estimated.corrected, breakdown=peak)
    return replace(estimated, breakdown=peak, corrected=corrected)


def judge(corrected: Corrected, card: Card, *, formula: Formula) -> Verdict:
    """Whether a job fits a card, as `run` says it: CUDA context and reserved memory together must.

    A job whose tensors would fit is never refused outright: near capacity the allocator gives back what it
    keeps beyond them, and asks again.
    """
    device = corrected.device_used
    if device is None:
        return _judge_part(corrected, card, formula=formula)
    room_bytes = card.total_bytes - single(device.value_bytes)
    least_room_bytes = card.total_bytes - _high(device)
    at_high = f"at the high end of the interval {room_text(least_room_bytes)}"
    if _low(corrected.allocated) + (card.context_bytes or 0) > card.total_bytes:
        fits, reason = Fits.NO, "tensors and CUDA context alone are more than the card has"
    elif least_room_bytes >= 0:
        fits, reason = Fits.YES, at_high
    elif room_bytes >= 0:
        fits, reason = Fits.LIKELY, at_high
    else:
        fits, reason = Fits.UNLIKELY, "unless the allocator can do with less than it would keep"
    return Verdict(fits=fits, room_bytes=room_bytes, reason=reason)


def room_text(room_bytes: int) -> str:
    """What of a card is left, or how much is missing."""
    return f"{format_bytes(room_bytes)} free" if room_bytes >= 0 else f"{format_bytes(-room_bytes)} too much"


def or_reason(find: Callable[[Given], Found], given: Given) -> Found | str:
    """What is found, or why it cannot be."""
    try:
        return find(given)
    except PeakvramError as error:
        return error.message


def single(quantity: Quantity) -> int:
    """The bytes of an estimate, which is of a single job."""
    assert isinstance(quantity, int), "an estimate is of one job, not of many"
    return quantity


def _judge_part(corrected: Corrected, card: Card, *, formula: Formula) -> Verdict:
    """Of a figure that is not known to be all that the card has to give, with no interval for that."""
    held = corrected.reserved or corrected.allocated
    room_bytes = card.total_bytes - single(held.value_bytes)
    fits = Fits.LIKELY if room_bytes >= 0 else Fits.UNLIKELY
    if corrected.reserved is not None:
        reason = "the CUDA context comes on top, its size on this card is not known"
    else:
        reason = f"the bare formula gives {formula.predicts}"
    return Verdict(fits=fits, room_bytes=room_bytes, reason=reason)


def _low(band: Band) -> int:
    return single(band.value_bytes if band.low_bytes is None else band.low_bytes)


def _high(band: Band) -> int:
    return single(band.value_bytes if band.high_bytes is None else band.high_bytes)


def _estimate(
    spec: JobSpec, architecture: Architecture, *, formula: Formula, factors: FactorFile | None, card: Card
) -> Estimated:
    reason = refusal_of(formula, spec, architecture)
    if reason is not None:
        return Refusal(spec=spec, formula=formula, reason=reason)
    breakdown = formula.evaluate(spec, architecture, shape_of(spec))
    corrected = correct(
        breakdown,
        factors=factors.formulas.get(formula.id) if factors else None,
        job=spec,
        context_bytes=card.context_bytes,
    )
    return Estimate(
        spec=spec,
        formula=formula,
        breakdown=breakdown,
        corrected=corrected,
        card=card,
        verdict=judge(corrected, card, formula=formula),
    )
