"""Which factors the records determine, how closely, and why the others are left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.estimate.factors import Factor, round_factor
from profiler.fit.sample import MIN_MODELS
from profiler.fit.solve import (
    Design,
    at_instants,
    normal_equations,
    record_weights,
    solve,
    solve_normal,
    winning_instants,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from profiler.fit.solve import Floats

NUM_RESAMPLES = 200
MIN_SHARE = 0.005
"""A term that is never half a percent of the figure cannot be told from the errors of the others."""
MAX_WIDTH = 0.5
"""An interval that holds the neutral factor and is wider than this says nothing."""
SAME_COURSE = 0.9999
"""The cosine from which two terms are one quantity under two names: in one ratio within about 1.4 %."""
SIMILAR_COURSE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Determined:
    """Factors, and how far they are to be trusted.

    Attributes:
        values: [num_terms].
        low: [num_terms], the low ends of their 90 % intervals.
        high: [num_terms], the high ends.
        reasons: why a factor is left neutral, a text a term; empty for a fitted one.
    """

    values: Floats
    low: Floats
    high: Floats
    reasons: tuple[str, ...]

    def as_factors(self, terms: Sequence[str]) -> dict[str, Factor]:
        """The factors as a factor file has them, of the terms that any record has."""
        return {
            term: Factor(
                value=round_factor(value),
                low=round_factor(low),
                high=round_factor(high),
                status="undetermined" if reason else "fitted",
                reason=reason,
            )
            for term, value, low, high, reason in zip(
                terms, self.values, self.low, self.high, self.reasons, strict=True
            )
        }


def determine(design: Design, *, terms: Sequence[str], num_resamples: int = NUM_RESAMPLES) -> Determined:
    """Fits the factors that the records determine.

    A factor is left neutral where its term is never large enough to show, where fewer than three models have
    it, or where resampling whole models gives an interval that holds the neutral factor and is wide: then the
    records do not tell the term from others. Terms in one ratio in all records are one quantity under several
    names, and get one factor together.

    Args:
        design: the terms and the figures.
        terms: the terms' names, for the reasons.
        num_resamples: how many times whole models are drawn with replacement for the intervals.
    """
    names = one_quantity(design)
    merged = merge(design, names)
    reasons = _too_small(merged)
    while True:
        is_free = np.array([not reason for reason in reasons])
        values = solve(merged, is_free=is_free)
        low, high = _resample(merged, values, is_free=is_free, num_resamples=num_resamples)
        widest = _least_certain(merged, low, high, is_free=is_free)
        if widest is None:
            break
        says_nothing = f"its 90 % interval, {low[widest]:.2f} to {high[widest]:.2f}, says nothing"
        other = _nearest(merged, values, widest)
        name = None if other is None else terms[int(np.flatnonzero(names == other)[0])]
        reasons[widest] = (
            says_nothing if name is None else f"{says_nothing}: in these records it moves with {name}"
        )
    return Determined(
        values=values[names], low=low[names], high=high[names], reasons=tuple(reasons[n] for n in names)
    )


def one_quantity(design: Design) -> NDArray[np.int64]:
    """[num_terms], equal numbers for terms that stand in one ratio in all records and instants."""
    columns = design.shares.reshape(-1, design.num_terms)
    lengths = np.linalg.norm(columns, axis=0)
    directions = columns / np.where(lengths > 0, lengths, 1)
    cosines = directions.T @ directions
    names = np.full(design.num_terms, -1)
    for term in range(design.num_terms):
        same = (cosines[term] > SAME_COURSE) & (names < 0) & (design.neutral == design.neutral[term])
        if names[term] < 0:
            same[term] = True
            names[same] = names.max() + 1
    return names


def merge(design: Design, names: NDArray[np.int64]) -> Design:
    """The design with terms of one number added up."""
    first = np.unique(names, return_index=True)[1]
    adding = np.equal.outer(names, np.arange(len(first))).astype(float)
    return Design(
        shares=design.shares @ adding,
        target=design.target,
        owners=design.owners,
        neutral=design.neutral[first],
        conditions=design.conditions,
    )


def _too_small(design: Design) -> list[str]:
    """Why a term cannot be fitted at all, a text a term; empty where it may be."""
    shares = at_instants(design.shares, winning_instants(design.shares, np.ones(design.num_terms)))
    reasons = []
    for column in shares.T:
        num_models = len(np.unique(design.owners[column >= MIN_SHARE]))
        reason = ""
        if num_models == 0:
            reason = f"never {MIN_SHARE:.1%} of the figure in these records"
        elif num_models < MIN_MODELS:
            reason = f"only {num_models} of the models have enough of it"
        reasons.append(reason)
    return reasons


def _resample(
    design: Design, values: Floats, *, is_free: NDArray[np.bool_], num_resamples: int
) -> tuple[Floats, Floats]:
    """The 90 % intervals of the factors, from fits to whole models drawn with replacement.

    The instants stay those that win under `values`.
    """
    columns = at_instants(design.shares, winning_instants(design.shares, values))
    weights = record_weights(design, values)
    owners = np.unique(design.owners)
    members = [design.owners == owner for owner in owners]
    grams, moments = zip(
        *(normal_equations(columns[rows], design.target[rows], weights=weights[rows]) for rows in members),
        strict=True,
    )
    counts = np.array([weights[rows].sum() for rows in members])
    generator = np.random.default_rng(0)  # the same records give the same file
    drawn = generator.multinomial(len(owners), np.full(len(owners), 1 / len(owners)), size=num_resamples)
    fits = [
        solve_normal(
            np.tensordot(times, np.array(grams), axes=1),
            times @ np.array(moments),
            num_records=float(times @ counts),
            neutral=design.neutral,
            is_free=is_free,
        )
        for times in drawn
    ]
    low, high = np.quantile(np.array(fits), [0.05, 0.95], axis=0)
    return np.minimum(low, values), np.maximum(high, values)


def _least_certain(design: Design, low: Floats, high: Floats, *, is_free: NDArray[np.bool_]) -> int | None:
    """The free factor with the widest interval that says nothing; None where all say something."""
    says_nothing = is_free & (low <= design.neutral) & (high >= design.neutral) & (high - low > MAX_WIDTH)
    widths = np.where(says_nothing, high - low, 0)
    return int(widths.argmax()) if says_nothing.any() else None


def _nearest(design: Design, values: Floats, term: int) -> int | None:
    """The term that moves with this one most closely, if any does, at the instants that win."""
    columns = at_instants(design.shares, winning_instants(design.shares, values))
    lengths = np.linalg.norm(columns, axis=0)
    cosines = columns.T @ columns[:, term] / np.maximum(lengths * lengths[term], np.finfo(float).tiny)
    cosines[term] = 0
    return int(cosines.argmax()) if cosines.max() >= SIMILAR_COURSE else None
