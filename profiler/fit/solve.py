"""Which factors make terms add up to what records show: bounded least squares of relative errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from profiler.estimate.factors import Where

    Floats = NDArray[np.float64]

RIDGE = 1e-5
"""The weak pull toward the neutral factor, a record. It decides the factor of a term that is about 0.3 % of
the figure or less (the square of that is the pull), and leaves all others to the records."""
LARGE_ERROR = 2.0
"""From this many median errors on, a record counts less: 1.345 standard deviations, the usual choice for the
weights of Huber (1964), are 1.345 x 1.4826 medians of the absolute error of a normal distribution."""
_EXACT = 1e-6
_MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What a fit is made of.

    Attributes:
        shares: [num_records, num_instants, num_terms], each term's bytes by those of the record's figure.
        target: [num_records], what the terms should add up to by the same measure: 1, or less for a gap.
        owners: [num_records], which model each record is of, from 0.
        neutral: [num_terms], the factor of a term that the records do not determine: 1 leaves a formula's
            own term as it is, 0 leaves a gap without it.
        conditions: what decides the group of each record.
    """

    shares: Floats
    target: Floats
    owners: NDArray[np.int64]
    neutral: Floats
    conditions: tuple[Where, ...]

    @property
    def num_terms(self) -> int:
        """Terms, whether or not any record has them."""
        return len(self.neutral)

    def of(self, rows: NDArray[np.bool_]) -> Design:
        """The same of some of the records."""
        return Design(
            shares=self.shares[rows],
            target=self.target[rows],
            owners=self.owners[rows],
            neutral=self.neutral,
            conditions=tuple(where for where, is_in in zip(self.conditions, rows, strict=True) if is_in),
        )


def solve(design: Design, *, is_free: NDArray[np.bool_]) -> Floats:
    """Factors of at least 0 with the least error, those that are not free left neutral.

    minimise sum over records of w (max over instants of sum_t f_t share_t - target)^2 + the pull to neutral

    Which instant is the largest, and what each record weighs, depend on the factors: least squares are solved
    for what the last factors said, until they stay. The round with the least mean absolute error is taken.

    Args:
        design: the terms and the figures.
        is_free: [num_terms], which factors are fitted.

    Returns:
        [num_terms] factors.
    """
    factors, weights = design.neutral, np.ones(len(design.target))
    best, least, before = factors, np.inf, factors
    for _ in range(_MAX_ROUNDS):
        columns = at_instants(design.shares, winning_instants(design.shares, factors))
        gram, moments = normal_equations(columns, design.target, weights=weights)
        factors = solve_normal(
            gram, moments, num_records=weights.sum(), neutral=design.neutral, is_free=is_free
        )
        error = _error(design, factors)
        if error < least:
            best, least = factors, error
        if np.allclose(factors, before, rtol=_EXACT, atol=_EXACT):
            break
        before, weights = factors, record_weights(design, factors)
    return best


def record_weights(design: Design, factors: Floats) -> Floats:
    """[num_records], what a record weighs: 1, or less where its error is large among those of all.

    So a few jobs that a formula does not describe do not bend its factors for all others.
    """
    errors = np.abs(corrected_totals(design.shares, factors) - design.target)
    large = LARGE_ERROR * max(float(np.median(errors)), _EXACT)
    return np.minimum(1.0, large / np.maximum(errors, large))


def corrected_totals(shares: Floats, factors: Floats) -> Floats:
    """[num_records], the largest instant's sum under some factors."""
    return cast("Floats", (shares @ factors).max(axis=1))


def winning_instants(shares: Floats, factors: Floats) -> NDArray[np.int64]:
    """[num_records], which instant is the largest under some factors; of equals the first."""
    return cast("NDArray[np.int64]", (shares @ factors).argmax(axis=1))


def at_instants(shares: Floats, instants: NDArray[np.int64]) -> Floats:
    """[num_records, num_terms], the terms of one instant a record."""
    return shares[np.arange(len(instants)), instants]


def normal_equations(columns: Floats, target: Floats, *, weights: Floats) -> tuple[Floats, Floats]:
    """What least squares needs to know of the records: [num_terms, num_terms] and [num_terms].

    Both are sums over records, so those of several models are the sums of theirs.
    """
    weighted = columns.T * weights
    return weighted @ columns, weighted @ target


def solve_normal(
    gram: Floats, moments: Floats, *, num_records: float, neutral: Floats, is_free: NDArray[np.bool_]
) -> Floats:
    """Factors of at least 0 of one set of normal equations, those that are not free left neutral."""
    factors = neutral.copy()
    if not is_free.any():
        return factors
    pull = RIDGE * max(num_records, 1)
    inner = gram[np.ix_(is_free, is_free)] + pull * np.eye(int(is_free.sum()))
    outer = gram[np.ix_(is_free, ~is_free)] @ neutral[~is_free]
    right = moments[is_free] - outer + pull * neutral[is_free]
    lower = np.linalg.cholesky(inner)
    factors[is_free] = nnls(lower.T, solve_triangular(lower, right, lower=True))[0]
    return factors


def matching(conditions: Sequence[Where], where: Where) -> NDArray[np.bool_]:
    """[num_records], whether a record is of a group, by what decides its groups."""
    return np.array([where.items() <= condition.items() for condition in conditions], dtype=bool)


def _error(design: Design, factors: Floats) -> float:
    return float(np.abs(corrected_totals(design.shares, factors) - design.target).mean())
