"""Which formulas speak of a model, and for which methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.formula.catalogue import all_formulas
from profiler.formula.configs import architecture_of
from profiler.jobs.job import METHODS, JobSpec

if TYPE_CHECKING:
    from collections.abc import Mapping


def formulas_of(model: str) -> Mapping[str, tuple[str, ...]]:
    """The methods that each formula speaks of for a model, by the formula's id; empty for an unknown family.

    What a job says besides, such as an attention, may still be refused.
    """
    jobs = {kind: JobSpec.model_validate({"model": model, "method": {"kind": kind}}) for kind in METHODS}
    try:
        architecture = architecture_of(model)
    except ConfigError:
        return {}
    spoken = {
        formula.id: tuple(kind for kind, job in jobs.items() if formula.refusal(job, architecture) is None)
        for formula in all_formulas()
    }
    return {formula_id: kinds for formula_id, kinds in spoken.items() if kinds}
