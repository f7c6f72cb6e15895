"""The estimate of a job by the formula that knows it best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.estimate.estimate import DEFAULT_FORMULA, Estimate, estimate_job
from profiler.formula.catalogue import find_formula
from profiler.formula.derived.shelf import files_for, find_derived
from profiler.formula.runnable import check_runnable

if TYPE_CHECKING:
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
