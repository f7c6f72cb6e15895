"""What a fit says of records it never saw: each model, or each card, is left out once and predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.fit.groups import GroupFit, Grouping, choose_grouping, fit_groups, predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from profiler.fit.case import Case
    from profiler.fit.solve import Design, Floats

NUM_RESAMPLES = 60
"""Enough to tell which factors are determined; their own intervals are not needed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which jobs get factors of their own, and why; None where there is nothing to fit."""

    allocated: tuple[Grouping, str]
    reserved_gap: tuple[Grouping, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Figures of records by factors that were fitted to others, in bytes; NaN where there are none."""

    allocated: Floats
    reserved: Floats
    device_used: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Designs:
    """The three fits of a formula, of all its records."""

    allocated: Design
    reserved_gap: Design
    device_gap: Design


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResults:
    """What the three fits found; None where no record tells of a gap."""

    allocated: tuple[GroupFit, ...]
    reserved_gap: tuple[GroupFit, ...] | None
    device_gap: tuple[GroupFit, ...] | None


def designs_of(case: Case) -> Designs:
    """The three fits of a formula."""
    return Designs(
        allocated=case.allocated_design(),
        reserved_gap=case.reserved_design(),
        device_gap=case.device_design(),
    )


def choose_groups(case: Case, designs: Designs) -> Chosen:
    """Which jobs get factors of their own."""
    finished, free = case.is_finished, case.is_finished & case.is_free
    gap = designs.reserved_gap.of(free) if free.any() else None
    return Chosen(
        allocated=choose_grouping(designs.allocated.of(finished), terms=case.evaluated.terms),
        reserved_gap=choose_grouping(gap, terms=case.gap_terms) if gap is not None else None,
    )


def fit_all(
    case: Case, designs: Designs, *, chosen: Chosen, rows: NDArray[np.bool_], num_resamples: int
) -> FitResults:
    """The three fits to some records, of which those that tell of a figure are used for it."""
    free = rows & case.is_finished & case.is_free
    telling = rows & case.tells_of_device
    reserved_gap = device_gap = None
    if chosen.reserved_gap is not None and free.any():
        reserved_gap = fit_groups(
            designs.reserved_gap.of(free),
            by=chosen.reserved_gap[0],
            terms=case.gap_terms,
            num_resamples=num_resamples,
        )
    if telling.any():
        device_gap = fit_groups(
            designs.device_gap.of(telling), by=(), terms=case.device_terms, num_resamples=num_resamples
        )
    return FitResults(
        allocated=fit_groups(
            designs.allocated.of(rows & case.is_finished),
            by=chosen.allocated[0],
            terms=case.evaluated.terms,
            num_resamples=num_resamples,
        ),
        reserved_gap=reserved_gap,
        device_gap=device_gap,
    )


def hold_out(case: Case, designs: Designs, *, chosen: Chosen, labels: NDArray[np.str_]) -> Predicted:
    """Every record predicted by factors fitted to the records of all other labels.

    Which groups there are was chosen with all records, factors and what they leave neutral without.

    Args:
        case: the formula and the records.
        designs: its three fits.
        chosen: the groups.
        labels: what is left out together: the model, or the card, of each record.
    """
    allocated, reserved, device = np.full((3, len(labels)), np.nan)
    for label in np.unique(labels):
        out = labels == label
        if not (case.is_finished & ~out).any():
            continue
        fits = fit_all(case, designs, chosen=chosen, rows=~out, num_resamples=NUM_RESAMPLES)
        allocated[out] = predict(designs.allocated.of(out), fits.allocated) * case.allocated_bytes[out]
        reserved[out] = allocated[out] + _gap(
            designs.reserved_gap, fits.reserved_gap, case.reserved_bytes, out
        )
        device[out] = reserved[out] + _gap(designs.device_gap, fits.device_gap, case.device_bytes, out)
    # Factors may all be 0: a figure of 1 byte keeps its relative error a number.
    return Predicted(
        allocated=np.maximum(allocated, 1),
        reserved=np.maximum(reserved, 1),
        device_used=np.maximum(device, 1),
    )


def _gap(
    design: Design, fits: Sequence[GroupFit] | None, of_bytes: NDArray[np.int64], rows: NDArray[np.bool_]
) -> Floats:
    if fits is None:
        return np.full(int(rows.sum()), np.nan)
    return predict(design.of(rows), fits) * of_bytes[rows]
