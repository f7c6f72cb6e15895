"""Which groups of jobs get factors of their own: those where models left out show that groups differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from profiler.estimate.factors import Condition, FactorGroup, Where
from profiler.fit.determine import NUM_RESAMPLES, Determined, determine
from profiler.fit.solve import corrected_totals, matching, solve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from profiler.fit.solve import Design, Floats

    Rows = NDArray[np.bool_]

Grouping: TypeAlias = tuple[Condition, ...] | None
"""What jobs of one group share; empty for one group of all, None where no factor helps."""

GROUPINGS: Final[tuple[tuple[Condition, ...], ...]] = (
    (),
    ("method",),
    ("checkpointing",),
    ("method", "checkpointing"),
    ("method", "checkpointing", "attention"),
)
MIN_GAIN = 0.1
"""Groups must lower the error on models left out by a tenth, or one group is kept."""
MIN_GROUP_MODELS = 4
MIN_GROUP_RECORDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFit:
    """Factors of one group of jobs, and what they were fitted on."""

    where: Where
    found: Determined
    num_records: int
    num_models: int

    def as_group(self, terms: Sequence[str]) -> FactorGroup:
        """The group as a factor file has it."""
        return FactorGroup(
            where=self.where,
            factors=self.found.as_factors(terms),
            num_records=self.num_records,
            num_models=self.num_models,
        )


def choose_grouping(design: Design, *, terms: Sequence[str]) -> tuple[Grouping, str]:
    """The grouping with the least error on models left out, and the reason for it.

    Every model is left out once, and predicted by factors fitted to the others. More than one group is taken
    only where that lowers the mean absolute error by a tenth, and factors at all only where they lower it.
    """
    errors = {by: _held_out_error(design, by=by, terms=terms) for by in GROUPINGS}
    untouched = float(abs(corrected_totals(design.shares, design.neutral) - design.target).mean())
    together, best = errors[()], min(errors, key=lambda by: (errors[by], len(by)))
    if min(together, errors[best]) >= untouched:
        return None, f"no factors: {errors[best]:.2%} mean error on models left out, {untouched:.2%} without"
    if best and errors[best] <= (1 - MIN_GAIN) * together:
        shared = " and ".join(best)
        return (
            best,
            f"groups by {shared}: {errors[best]:.2%} mean error on models left out, {together:.2%} in one",
        )
    apart = min((by for by in errors if by), key=lambda by: errors[by])
    shared = " and ".join(apart)
    return (), f"one group: {together:.2%} mean error on models left out, {errors[apart]:.2%} by {shared}"


def fit_groups(
    design: Design, *, by: Grouping, terms: Sequence[str], num_resamples: int = NUM_RESAMPLES
) -> tuple[GroupFit, ...]:
    """Factors of all records, and of every group that is large enough.

    Args:
        design: the terms and the figures.
        by: what jobs of a group share.
        terms: the terms' names.
        num_resamples: how many resamples tell which factors are determined; 0 takes all as they come.
    """
    return tuple(
        GroupFit(
            where=where,
            found=_untouched(design)
            if by is None
            else _fit(design.of(rows), terms=terms, num_resamples=num_resamples),
            num_records=int(rows.sum()),
            num_models=_num_models(design, rows),
        )
        for where, rows in _groups(design, by=by)
    )


def predict(design: Design, fits: Sequence[GroupFit]) -> Floats:
    """[num_records], the corrected sum of each record by the most specific group's factors."""
    totals = np.zeros(len(design.target))
    for fit in sorted(fits, key=lambda fit: len(fit.where)):  # the more specific overwrite the others
        rows = matching(design.conditions, fit.where)
        totals[rows] = corrected_totals(design.shares[rows], fit.found.values)
    return totals


def _held_out_error(design: Design, *, by: Grouping, terms: Sequence[str]) -> float:
    errors = np.zeros(len(design.target))
    for owner in np.unique(design.owners):
        rows = design.owners == owner
        fits = fit_groups(design.of(~rows), by=by, terms=terms, num_resamples=0)
        errors[rows] = predict(design.of(rows), fits) - design.target[rows]
    return float(np.abs(errors).mean())


def _fit(design: Design, *, terms: Sequence[str], num_resamples: int) -> Determined:
    if num_resamples:
        return determine(design, terms=terms, num_resamples=num_resamples)
    values = solve(design, is_free=np.ones(design.num_terms, dtype=bool))
    return Determined(values=values, low=values, high=values, reasons=("",) * design.num_terms)


def _untouched(design: Design) -> Determined:
    neutral, reason = design.neutral, "fitting does not lower the error on models left out"
    return Determined(values=neutral, low=neutral, high=neutral, reasons=(reason,) * design.num_terms)


def _groups(design: Design, *, by: Grouping) -> Iterator[tuple[Where, Rows]]:
    """Every record first, then each group with enough records of enough models."""
    yield {}, matching(design.conditions, {})
    distinct = {tuple(where[name] for name in by) for where in design.conditions} if by else set()
    for values in sorted(distinct, key=str):
        where: Where = dict(zip(by or (), values, strict=True))
        rows = matching(design.conditions, where)
        if rows.sum() >= MIN_GROUP_RECORDS and _num_models(design, rows) >= MIN_GROUP_MODELS:
            yield where, rows


def _num_models(design: Design, rows: Rows) -> int:
    return len(set(design.owners[rows].tolist()))
