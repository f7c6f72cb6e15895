"""What a job takes once a formula is corrected: allocated, reserved and device use, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from profiler.estimate.factors import conditions_of, most_specific
from profiler.formula.breakdown import Breakdown, Instant, largest
from profiler.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from profiler.estimate.factors import Correction, Factor, FormulaFactors, Where
    from profiler.formula.breakdown import Quantity
    from profiler.jobs.job import JobSpec

CONSTANT = "constant"
"""A feature that every job has alike: its factor is a number of MiB."""
CONTEXT = "context"
"""What the CUDA context takes on the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A figure and its 90 % interval, in bytes; no interval where nothing was fitted."""

    value_bytes: Quantity
    low_bytes: Quantity | None = None
    high_bytes: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What a job, or a group of jobs alike in all but the batch's shape, takes.

    Attributes:
        breakdown: the corrected terms of every instant; its `peak` is the instant that wins.
        allocated: the peak of allocated memory.
        reserved: the peak of reserved memory; None where nothing was fitted for it.
        device_used: what the card shows as used; None where nothing was fitted for it, or the size of the
            card's context is not known.
    """

    breakdown: Breakdown
    allocated: Band
    reserved: Band | None
    device_used: Band | None


def correct(
    breakdown: Breakdown, *, factors: FormulaFactors | None, job: JobSpec, context_bytes: int | None
) -> Corrected:
    """Corrects what a formula says of a job, or of a group of jobs (each term an array).

    Plain integers and floats for a single job; nothing heavy is imported.

    Args:
        breakdown: the formula's own figures.
        factors: `FactorFile.formulas[formula.id]`; None for the bare formula.
        job: the job, or one of the group; decides which groups of factors apply.
        context_bytes: what the CUDA context takes on the card; None where that is not known.
    """
    if factors is None:
        bare = Band(value_bytes=breakdown.peak_bytes)
        return Corrected(breakdown=breakdown, allocated=bare, reserved=None, device_used=None)
    where = conditions_of(job)
    corrected = _correct_terms(breakdown, most_specific(factors.allocated.factors, where).factors)
    allocated = _band(corrected.peak_bytes, part=factors.allocated, where=where)
    reserved = device_used = None
    if factors.reserved_gap is not None:
        gap = _gap(reserved_features(breakdown), part=factors.reserved_gap, where=where)
        reserved = _on_top(allocated, gap, part=factors.reserved_gap, where=where)
    if reserved is not None and factors.device_gap is not None and context_bytes is not None:
        gap = _gap(device_features(context_bytes), part=factors.device_gap, where=where)
        device_used = _on_top(reserved, gap, part=factors.device_gap, where=where)
    return Corrected(breakdown=corrected, allocated=allocated, reserved=reserved, device_used=device_used)


def reserved_features(breakdown: Breakdown) -> dict[str, Quantity]:
    """What the gap between reserved and allocated memory is made of, in bytes: each times its factor.

    The allocator keeps blocks that were freed. What it cannot reuse grows with the largest tensors that come
    and go, so every term of the formula is a feature, as it is at the instant where it is largest.
    """
    terms = dict.fromkeys(term for instant in breakdown.instants for term in instant.terms)
    return {
        term: largest(*(instant.terms.get(term, 0) for instant in breakdown.instants)) for term in terms
    } | {CONSTANT: MIB}


def device_features(context_bytes: Quantity) -> dict[str, Quantity]:
    """What the gap between device use and reserved memory is made of, in bytes: each times its factor."""
    return {CONTEXT: context_bytes, CONSTANT: MIB}


def _correct_terms(breakdown: Breakdown, factors: Mapping[str, Factor]) -> Breakdown:
    """The breakdown with every term times its factor; a term that no record had stays as it is."""
    values = {term: factor.value for term, factor in factors.items()}
    return Breakdown(
        instants=tuple(
            Instant(
                name=instant.name,
                terms={
                    term: _times(quantity, values.get(term, 1.0)) for term, quantity in instant.terms.items()
                },
            )
            for instant in breakdown.instants
        )
    )


def _gap(features: Mapping[str, Quantity], *, part: Correction, where: Where) -> Quantity:
    factors = most_specific(part.factors, where).factors
    return sum(
        _times(quantity, factors[name].value) for name, quantity in features.items() if name in factors
    )


def _on_top(held: Band, gap: Quantity, *, part: Correction, where: Where) -> Band:
    """The figure that a gap leads to; nowhere below what it holds, whose interval was fitted by itself."""
    band = _band(held.value_bytes + gap, part=part, where=where)
    return Band(
        value_bytes=largest(band.value_bytes, held.value_bytes),
        low_bytes=_larger_end(band.low_bytes, held.low_bytes),
        high_bytes=_larger_end(band.high_bytes, held.high_bytes),
    )


def _larger_end(own: Quantity | None, held: Quantity | None) -> Quantity:
    assert own is not None, "a corrected figure has an interval"
    assert held is not None, "so has the one it holds"
    return largest(own, held)


def _band(value: Quantity, *, part: Correction, where: Where) -> Band:
    interval = most_specific(part.intervals, where)
    return Band(
        value_bytes=value,
        low_bytes=_times(value, interval.low),
        high_bytes=_times(value, interval.high),
    )


def _times(quantity: Quantity, factor: float) -> Quantity:
    """A number of bytes times a factor, to the nearest byte."""
    if isinstance(quantity, int):
        return round(quantity * factor)
    import numpy as np  # noqa: PLC0415 - a single estimate does without

    return cast("NDArray[np.int64]", np.rint(quantity * factor).astype(np.int64))
