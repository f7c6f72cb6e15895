"""Whether a claim holds, from the figures found for it.

The rule. A claim is a range, one figure being a range with equal ends, and is widened at both ends by its
tolerance (10 % unless the claim's file says otherwise). The evidence gives one figure a job, or a combination
of arguments. All figures inside: `holds`. All above: `too low`. All below: `too high`. Anything else: it
`depends` on what the author leaves open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from profiler.evidence.claims.arithmetic import calculate, calculated_unit
from profiler.evidence.claims.documents import Arithmetic, Runs, Unchecked
from profiler.evidence.claims.figures import Unit, compare_figures, read_figure, unit_of
from profiler.evidence.claims.jobs import differences, jobs_of, pairs_of
from profiler.jobs.identity import job_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from profiler.evidence.claims.documents import Claim, Claimed, ClaimSet, Evidence
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record


class ClaimVerdict(StrEnum):
    """What becomes of a claim; `NOT_RUN` until the records of all its jobs are there."""

    HOLDS = "holds"
    TOO_LOW = "too low"
    TOO_HIGH = "too high"
    DEPENDS = "depends"
    NOT_CHECKABLE = "not checkable"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFigure:
    """One figure of the evidence.

    Attributes:
        value: in the unit of the claim.
        where: the settings that set it apart from the claim's other figures, or the working of a sum.
        keys: the keys of the records it was read from; none for arithmetic.
    """

    value: float
    where: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A claim and what was found.

    Attributes:
        claim: as its file has it.
        unit: what its figures are counted in; None where it is not checked.
        verdict: what becomes of it.
        found: every figure, in the order of the evidence.
        kinds: the kinds of device of the records, `virtual` or `real`; none for arithmetic.
        reason: why there is no verdict, where there is none.
    """

    claim: Claim
    unit: Unit | None
    verdict: ClaimVerdict
    found: tuple[FoundFigure, ...] = ()
    kinds: tuple[str, ...] = ()
    reason: str = ""

    @property
    def lowest(self) -> FoundFigure | None:
        """The smallest figure; of equal ones the first."""
        return min(self.found, key=lambda found: found.value, default=None)

    @property
    def highest(self) -> FoundFigure | None:
        """The largest figure; of equal ones the first."""
        return max(self.found, key=lambda found: found.value, default=None)

    @property
    def num_inside(self) -> int:
        """How many figures lie within the claim and its tolerance."""
        return sum(
            verdict_of(self.claim.claimed, [found.value], tolerance=self.claim.tolerance)
            is ClaimVerdict.HOLDS
            for found in self.found
            if self.claim.claimed is not None
        )


def verdict_of(claimed: Claimed | None, values: Sequence[float], *, tolerance: float) -> ClaimVerdict:
    """The verdict on a range from the figures found, by the rule above."""
    if claimed is None or not values:
        return ClaimVerdict.NOT_RUN
    low = -math.inf if claimed.low is None else claimed.low * (1 - tolerance)
    high = math.inf if claimed.high is None else claimed.high * (1 + tolerance)
    if all(low <= value <= high for value in values):
        return ClaimVerdict.HOLDS
    if all(value > high for value in values):
        return ClaimVerdict.TOO_LOW
    if all(value < low for value in values):
        return ClaimVerdict.TOO_HIGH
    return ClaimVerdict.DEPENDS


def unit_of_evidence(evidence: Evidence) -> Unit | None:
    """What the figures of a claim are counted in; None where it is not checked."""
    match evidence:
        case Runs():
            return unit_of(evidence.figure, evidence.compare)
        case Arithmetic():
            return calculated_unit(evidence.calculator)
        case Unchecked():
            return None
        case _:
            assert_never(evidence)


def judge_claim(claim: Claim, claims: ClaimSet, records: Mapping[str, Record]) -> Judgement:
    """Judges one claim.

    Args:
        claim: the claim.
        claims: the set it is of, for its grids.
        records: the record of each job by key, as far as there are any.

    Raises:
        ConfigError: if the claim's jobs or arguments are none.
    """
    evidence, unit = claim.evidence, unit_of_evidence(claim.evidence)
    match evidence:
        case Unchecked():
            return Judgement(
                claim=claim, unit=None, verdict=ClaimVerdict.NOT_CHECKABLE, reason=evidence.reason
            )
        case Arithmetic():
            worked = calculate(evidence.calculator, evidence.arguments)
            found = tuple(FoundFigure(value=result.value, where=result.working) for result in worked)
            return Judgement(claim=claim, unit=unit, verdict=_verdict(claim, found), found=found)
        case Runs():
            return _judge_runs(claim, evidence, claims, records)
        case _:
            assert_never(evidence)


def _judge_runs(claim: Claim, runs: Runs, claims: ClaimSet, records: Mapping[str, Record]) -> Judgement:
    jobs = jobs_of(runs, claims.grids)
    names = differences(jobs)
    results = list(_figures(runs, jobs, names, records))
    found = tuple(figure for figure in results if figure is not None)
    num_missing = len(results) - len(found)
    devices = (records[key].device for figure in found for key in figure.keys)
    return Judgement(
        claim=claim,
        unit=unit_of(runs.figure, runs.compare),
        verdict=ClaimVerdict.NOT_RUN if num_missing else _verdict(claim, found),
        found=found,
        kinds=tuple(sorted({device.kind for device in devices if device})),
        reason=f"{num_missing} of {len(results)} figures are missing" if num_missing else "",
    )


def _figures(
    runs: Runs, jobs: Sequence[JobSpec], names: Sequence[str], records: Mapping[str, Record]
) -> Iterator[FoundFigure | None]:
    """The figure of each job, or of each pair; None for one that is missing."""
    if runs.compare is None:
        for job, name in zip(jobs, names, strict=True):
            key = job_key(job)
            value = read_figure(runs.figure, records[key]) if key in records else None
            yield None if value is None else FoundFigure(value=value, where=name, keys=(key,))
        return
    for (job, other), name in zip(pairs_of(runs, jobs), names, strict=True):
        keys = (job_key(job), job_key(other))
        values = [read_figure(runs.figure, records[key]) if key in records else None for key in keys]
        value = None
        if values[0] is not None and values[1] is not None:
            lengths = (job.seq_len, other.seq_len)
            value = compare_figures(runs.compare, values[0], values[1], lengths=lengths)
        yield None if value is None else FoundFigure(value=value, where=name, keys=keys)


def _verdict(claim: Claim, found: Sequence[FoundFigure]) -> ClaimVerdict:
    return verdict_of(claim.claimed, [figure.value for figure in found], tolerance=claim.tolerance)
