"""What a factor file is made of: the factors of formulas, fitted to the records of some studies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import ConfigError
from profiler.estimate.factors import SCHEMA_VERSION, Correction, FactorFile, FactorGroup, FormulaFactors
from profiler.fit.case import Case, make_case
from profiler.fit.determine import NUM_RESAMPLES
from profiler.fit.hold_out import (
    Chosen,
    Designs,
    Predicted,
    choose_groups,
    designs_of,
    fit_all,
    hold_out,
)
from profiler.fit.intervals import fit_intervals
from profiler.fit.sample import MIN_MODELS, MIN_RECORDS, describe_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.fit.groups import GroupFit
    from profiler.fit.sample import Sample
    from profiler.formula.breakdown import Formula


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The factors of one formula, and what is needed to test them.

    Attributes:
        case: the formula and the records it speaks of.
        designs: its three fits.
        chosen: which groups there are, and why.
        held_out: every record predicted by factors that did not see its model.
        factors: what goes into the factor file.
    """

    case: Case
    designs: Designs
    chosen: Chosen
    held_out: Predicted
    factors: FormulaFactors


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfitted:
    """A formula that has no factors, and why.

    Attributes:
        case: the formula and the few records it speaks of, if any.
        reason: why there are none.
    """

    case: Case
    reason: str


def fit_formula(formula: Formula, sample: Sample) -> Fitted | Unfitted:
    """The factors of a formula; or why there are none: it speaks of too few of the records."""
    case = make_case(formula, sample)
    num_models = len(set(case.models[case.is_finished].tolist()))
    if case.is_finished.sum() < MIN_RECORDS or num_models < MIN_MODELS:
        return Unfitted(case=case, reason=_why_unfitted(case, num_models=num_models))
    designs = designs_of(case)
    chosen = choose_groups(case, designs)
    held_out = hold_out(case, designs, chosen=chosen, labels=case.models)
    factors = _factors(case, designs, chosen=chosen, held_out=held_out)
    return Fitted(case=case, designs=designs, chosen=chosen, held_out=held_out, factors=factors)


def factor_file(fitted: Sequence[Fitted], sample: Sample) -> FactorFile:
    """Puts the factors of some formulas together.

    Raises:
        ConfigError: if there are none.
    """
    if not fitted:
        raise ConfigError(
            "none of the formulas speaks of enough of these records",
            hint=f"a fit takes at least {MIN_RECORDS} records of at least {MIN_MODELS} models",
        )
    return FactorFile(
        schema_version=SCHEMA_VERSION,
        created_at=datetime.now(UTC).replace(microsecond=0),
        fitted_on=describe_sample(sample),
        formulas={one.case.formula.id: one.factors for one in fitted},
    )


def _factors(case: Case, designs: Designs, *, chosen: Chosen, held_out: Predicted) -> FormulaFactors:
    everything = np.ones(len(case.positions), dtype=bool)
    fits = fit_all(case, designs, chosen=chosen, rows=everything, num_resamples=NUM_RESAMPLES)
    free = case.is_finished & case.is_free
    telling = free & case.tells_of_device
    reserved_gap = device_gap = None
    if fits.reserved_gap is not None and chosen.reserved_gap is not None:
        reserved_gap = Correction(
            factors=_groups(fits.reserved_gap, case.gap_terms),
            intervals=fit_intervals(case.ratios(case.reserved_bytes / held_out.reserved).of(free)),
            reason=chosen.reserved_gap[1],
        )
    if fits.device_gap is not None and reserved_gap is not None:
        device_gap = Correction(
            factors=_groups(fits.device_gap, case.device_terms),
            intervals=fit_intervals(case.ratios(case.device_bytes / held_out.device_used).of(telling)),
            reason="one group: what is outside the allocator hangs on the card, not on the job",
        )
    return FormulaFactors(
        allocated=Correction(
            factors=_groups(fits.allocated, case.evaluated.terms),
            intervals=fit_intervals(
                case.ratios(case.allocated_bytes / held_out.allocated).of(case.is_finished)
            ),
            reason=chosen.allocated[1],
        ),
        reserved_gap=reserved_gap,
        device_gap=device_gap,
    )


def _groups(fits: Sequence[GroupFit], terms: Sequence[str]) -> tuple[FactorGroup, ...]:
    return tuple(fit.as_group(terms) for fit in fits)


def _why_unfitted(case: Case, *, num_models: int) -> str:
    num_records = int(case.is_finished.sum())
    if num_records:
        return f"it speaks of {num_records} of the records only, of {num_models} models"
    if not case.refused:
        return "there is no record of a finished job"
    most = max(case.refused, key=lambda reason: case.refused[reason])
    others = len(case.refused) - 1
    return f"{most}, and so on for all" if others else most
