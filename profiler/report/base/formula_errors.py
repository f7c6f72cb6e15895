"""How far each formula is off the records of one study, as its author gives it and once corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.estimate.apply import correct
from profiler.estimate.evaluate import evaluate_jobs
from profiler.estimate.factors import conditions_of
from profiler.fit.sample import sample_of
from profiler.fit.score import Score, score
from profiler.formula.catalogue import all_formulas
from profiler.formula.configs import is_at_hand
from profiler.records.fingerprint import identity_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from profiler.estimate.evaluate import Evaluated
    from profiler.estimate.factors import FactorFile, FormulaFactors
    from profiler.formula.breakdown import Formula
    from profiler.jobs.job import JobSpec
    from profiler.records.fingerprint import Identity
    from profiler.records.schema import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FormulaError:
    """One formula beside peak allocated memory of the finished jobs that it speaks of.

    Attributes:
        formula: the formula.
        bare: its errors as its author gives it.
        corrected: its errors once corrected; None where there are no factors for it.
        identities: the records.
        bare_bytes: what the formula says of each, in the same order.
        corrected_bytes: what it says once corrected; empty where there are no factors for it.
    """

    formula: Formula
    bare: Score
    corrected: Score | None
    identities: tuple[Identity, ...]
    bare_bytes: tuple[int, ...]
    corrected_bytes: tuple[int, ...]


def formula_errors(records: Sequence[Record], factors: FactorFile) -> tuple[FormulaError, ...]:
    """The errors of every formula that speaks of any of the records, those least off first.

    Factors that were fitted on these very records make them look better than they are on others:
    `seen_records` tells.
    """
    finished = [one for one in sample_of(records, studies=()).records if is_at_hand(one.spec.model)]
    found = (_error_of(formula, finished, factors.formulas.get(formula.id)) for formula in all_formulas())
    errors = [error for error in found if error is not None]
    return tuple(sorted(errors, key=lambda error: (error.corrected or error.bare).median))


def _error_of(
    formula: Formula, records: Sequence[Record], factors: FormulaFactors | None
) -> FormulaError | None:
    evaluated = evaluate_jobs(formula, [record.spec for record in records])
    spoken = [position for position in range(len(records)) if position not in evaluated.refused]
    if not spoken:
        return None
    own = [records[position] for position in spoken]
    evaluated = evaluated.of(np.array(spoken, dtype=np.int64))
    recorded = np.array([record.peak.allocated_bytes if record.peak else 0 for record in own])
    bare = evaluated.term_bytes.sum(axis=2).max(axis=1)
    corrected = None if factors is None else _corrected(evaluated, [one.spec for one in own], factors)
    return FormulaError(
        formula=formula,
        bare=score(bare, recorded),
        corrected=None if corrected is None else score(corrected, recorded),
        identities=tuple(map(identity_of, own)),
        bare_bytes=tuple(bare.tolist()),
        corrected_bytes=() if corrected is None else tuple(corrected.tolist()),
    )


def _corrected(evaluated: Evaluated, jobs: Sequence[JobSpec], factors: FormulaFactors) -> NDArray[np.float64]:
    """The corrected peak of every job; those of one group of factors together."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, job in enumerate(jobs):
        groups.setdefault(tuple(conditions_of(job).values()), []).append(position)
    result = np.zeros(len(jobs))
    for positions in groups.values():
        breakdown = evaluated.of(np.array(positions, dtype=np.int64)).as_breakdown()
        job = jobs[positions[0]]
        result[positions] = correct(
            breakdown, factors=factors, job=job, context_bytes=None
        ).allocated.value_bytes
    return result
