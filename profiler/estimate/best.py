"""The estimates of jobs by the formulas that know them best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.errors import PeakvramError
from profiler.estimate.card import card_of
from profiler.estimate.estimate import DEFAULT_FORMULA, Estimate, estimate_job, estimate_jobs
from profiler.formula.catalogue import find_formula
from profiler.formula.derived.shelf import files_for, find_derived
from profiler.formula.runnable import check_runnable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.estimate.card import Card
    from profiler.estimate.estimate import Estimated
    from profiler.estimate.factors import FactorFile
    from profiler.jobs.job import JobSpec


def best_estimate(spec: JobSpec, *, factors: FactorFile | None, card: Card) -> Estimated:
    """What the derived formula of a job says, or where there is none, ours.

    Raises:
        UnknownShapesError: no formula knows the shapes of its model.
        ConfigError: the job cannot run, or the model is not known.
        EnvironmentUnfitError: it cannot run with what is installed here.
    """
    check_runnable(spec)
    notes: tuple[str, ...] = ()
    if files_for(spec, card_id=card.id):
        from profiler.estimate.derived import estimate_derived  # noqa: PLC0415 - few jobs have one yet

        derived = estimate_derived(spec, card=card)
        if isinstance(derived, Estimate):
            return derived
        shelf = find_derived(spec, card_id=card.id)
        notes = shelf.notes if shelf.formula is None else (derived.reason,)
    ours = estimate_job(spec, formula=find_formula(DEFAULT_FORMULA), factors=factors, card=card)
    return replace(ours, notes=notes) if isinstance(ours, Estimate) else ours


def best_estimates(specs: Sequence[JobSpec], *, factors: FactorFile | None) -> list[Estimated]:
    """What the derived formula of each job says, or where there is none, ours; in their order."""
    ours = estimate_jobs(specs, formula=find_formula(DEFAULT_FORMULA), factors=factors)
    return [_derived(spec, factors=factors) or estimated for spec, estimated in zip(specs, ours, strict=True)]


def _derived(spec: JobSpec, *, factors: FactorFile | None) -> Estimate | None:
    """What the derived formula of a job says; None where there is none, or the job cannot run."""
    try:
        card = card_of(spec)
        if not files_for(spec, card_id=card.id):
            return None
        best = best_estimate(spec, factors=factors, card=card)
    except PeakvramError:  # as our formula has said
        return None
    return best if isinstance(best, Estimate) else None
