"""What a formula says of many jobs at once: those alike in all but the batch are evaluated together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import ConfigError
from profiler.formula.breakdown import Breakdown, Instant, Shape, refusal_of
from profiler.formula.configs import architecture_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from profiler.formula.breakdown import Formula
    from profiler.jobs.job import JobSpec

_SHAPE_FIELDS = frozenset({"batch_size", "seq_len"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Jobs that differ in batch size and length alone.

    Attributes:
        job: one of them.
        positions: where they stand among all jobs.
        shape: their batches, in the same order.
    """

    job: JobSpec
    positions: NDArray[np.int64]
    shape: Shape

    def of(self, is_in: NDArray[np.bool_]) -> Alike:
        """The same of some of the jobs."""
        shape = Shape(
            batch_size=np.asarray(self.shape.batch_size)[is_in], seq_len=np.asarray(self.shape.seq_len)[is_in]
        )
        return Alike(job=self.job, positions=self.positions[is_in], shape=shape)

    def jobs(self) -> Iterator[tuple[int, JobSpec]]:
        """Each job with its position."""
        batches, lengths = np.asarray(self.shape.batch_size), np.asarray(self.shape.seq_len)
        for position, batch, length in zip(self.positions, batches, lengths, strict=True):
            shape = {"batch_size": int(batch), "seq_len": int(length)}
            yield int(position), self.job.model_copy(update=shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A formula's breakdowns of many jobs as one array.

    Attributes:
        instants: names of the instants, in order of first appearance.
        terms: names of the terms, in order of first appearance.
        term_bytes: int64, [num_jobs, num_instants, num_terms]; 0 where a job has no such instant or term.
        refused: why the formula says nothing of a job, by its position; such a job's bytes are all 0.
    """

    instants: tuple[str, ...]
    terms: tuple[str, ...]
    term_bytes: NDArray[np.int64]
    refused: Mapping[int, str]

    def of(self, positions: NDArray[np.int64]) -> Evaluated:
        """The same of some of the jobs, none of them refused."""
        assert not self.refused.keys() & set(positions.tolist()), "a refused job has no terms"
        return Evaluated(
            instants=self.instants, terms=self.terms, term_bytes=self.term_bytes[positions], refused={}
        )

    def as_breakdown(self) -> Breakdown:
        """All jobs as one breakdown; an instant or a term that a job does not have holds 0 bytes of it."""
        return Breakdown(
            instants=tuple(
                Instant(
                    name=name,
                    terms={term: self.term_bytes[:, at, which] for which, term in enumerate(self.terms)},
                )
                for at, name in enumerate(self.instants)
            )
        )


def evaluate_jobs(formula: Formula, jobs: Sequence[JobSpec]) -> Evaluated:
    """The breakdowns of jobs, in their order."""
    return evaluate_groups(formula, group_jobs(jobs), num_jobs=len(jobs))


def group_jobs(jobs: Sequence[JobSpec]) -> list[Alike]:
    """Sorts jobs into groups that differ in batch size and length alone."""
    members: dict[tuple[object, ...], list[int]] = {}
    for position, job in enumerate(jobs):
        key = tuple(value for name, value in job.__dict__.items() if name not in _SHAPE_FIELDS)
        members.setdefault(key, []).append(position)
    return [
        Alike(
            job=jobs[positions[0]],
            positions=np.array(positions, dtype=np.int64),
            shape=Shape(
                batch_size=np.array([jobs[position].batch_size for position in positions], dtype=np.int64),
                seq_len=np.array([jobs[position].seq_len for position in positions], dtype=np.int64),
            ),
        )
        for positions in members.values()
    ]


def evaluate_groups(formula: Formula, groups: Iterable[Alike], *, num_jobs: int) -> Evaluated:
    """The breakdowns of grouped jobs as one array; each position of 0 to `num_jobs` - 1 is in one group."""
    refused: dict[int, str] = {}
    evaluated: list[tuple[Alike, Breakdown]] = []
    for group in groups:
        breakdown = evaluate_group(formula, group)
        if isinstance(breakdown, str):
            refused |= dict.fromkeys(group.positions.tolist(), breakdown)
        else:
            evaluated.append((group, breakdown))
    instants, terms = _names(breakdown for _, breakdown in evaluated)
    term_bytes = np.zeros((num_jobs, len(instants), len(terms)), dtype=np.int64)
    for group, breakdown in evaluated:
        for instant in breakdown.instants:
            for term, quantity in instant.terms.items():
                term_bytes[group.positions, instants[instant.name], terms[term]] = quantity
    return Evaluated(instants=tuple(instants), terms=tuple(terms), term_bytes=term_bytes, refused=refused)


def evaluate_group(formula: Formula, group: Alike) -> Breakdown | str:
    """The breakdown of a group, an array a term; or why the formula says nothing of it."""
    try:
        architecture = architecture_of(group.job.model)
    except ConfigError as error:
        return error.message
    reason = refusal_of(formula, group.job, architecture)
    return formula.evaluate(group.job, architecture, group.shape) if reason is None else reason


def _names(breakdowns: Iterable[Breakdown]) -> tuple[dict[str, int], dict[str, int]]:
    instants: dict[str, int] = {}
    terms: dict[str, int] = {}
    for breakdown in breakdowns:
        for instant in breakdown.instants:
            instants.setdefault(instant.name, len(instants))
            for term in instant.terms:
                terms.setdefault(term, len(terms))
    return instants, terms
