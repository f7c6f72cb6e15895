"""What a formula says of jobs and what their records show, side by side, ready to be fitted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from profiler.estimate.apply import CONTEXT, device_features, reserved_features
from profiler.estimate.evaluate import Evaluated, evaluate_jobs
from profiler.estimate.factors import conditions_of
from profiler.fit.intervals import Ratios
from profiler.fit.solve import Design

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from profiler.estimate.factors import Where
    from profiler.fit.sample import Sample
    from profiler.fit.solve import Floats
    from profiler.formula.breakdown import Formula, Quantity

    Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One formula and the records it speaks of; every array has one row a record.

    A job that ran out of memory has no figures to compare with: here each of its figures is 1 byte, so that
    what is predicted relative to them comes out in bytes.

    Attributes:
        formula: the formula.
        positions: where the records stand in the sample, those that ran out of memory after the finished.
        refused: why the formula says nothing of the others, and of how many.
        conditions: what decides the group of a job.
        models: the model of a record.
        studies: the study of a record.
        cards: the card of a record.
        evaluated: the formula's own terms.
        is_finished: whether the job ran to its end.
        is_free: whether the record tells of the gap between reserved and allocated memory.
        tells_of_device: whether it tells of the gap between device use and reserved memory.
        allocated_bytes: the peak of allocated memory.
        reserved_bytes: the peak of reserved memory.
        device_bytes: the peak of device use; 1 where it was not read.
        context_bytes: the size of the CUDA context; 0 where it is not known.
        total_bytes: the card's capacity.
    """

    formula: Formula
    positions: NDArray[np.int64]
    refused: Mapping[str, int]
    conditions: tuple[Where, ...]
    models: NDArray[np.str_]
    studies: NDArray[np.str_]
    cards: NDArray[np.str_]
    evaluated: Evaluated
    is_finished: Rows
    is_free: Rows
    tells_of_device: Rows
    allocated_bytes: NDArray[np.int64]
    reserved_bytes: NDArray[np.int64]
    device_bytes: NDArray[np.int64]
    context_bytes: NDArray[np.int64]
    total_bytes: NDArray[np.int64]

    @property
    def bare_bytes(self) -> Floats:
        """The formula's own peak."""
        return cast("Floats", self.evaluated.term_bytes.sum(axis=2).max(axis=1).astype(float))

    @property
    def gap_terms(self) -> tuple[str, ...]:
        """Names of the features of the gap between reserved and allocated memory."""
        return tuple(reserved_features(self.evaluated.as_breakdown()))

    @property
    def device_terms(self) -> tuple[str, ...]:
        """Names of the features of the gap between device use and reserved memory."""
        return tuple(device_features(0))

    def ratios(self, values: Floats) -> Ratios:
        """Figures by predicted figures, with what decides their groups."""
        return Ratios(values=values, models=self.models, studies=self.studies, conditions=self.conditions)

    def allocated_design(self) -> Design:
        """The formula's terms by allocated memory, which they should add up to."""
        return Design(
            shares=self.evaluated.term_bytes / self.allocated_bytes[:, None, None],
            target=np.ones(len(self.positions)),
            owners=_numbered(self.models),
            neutral=np.ones(len(self.evaluated.terms)),
            conditions=self.conditions,
        )

    def reserved_design(self) -> Design:
        """The features by reserved memory; they should add up to the share of it that is not allocated."""
        features = reserved_features(self.evaluated.as_breakdown())
        return Design(
            shares=_shares(features.values(), of_bytes=self.reserved_bytes),
            target=1 - self.allocated_bytes / self.reserved_bytes,
            owners=_numbered(self.models),
            neutral=np.zeros(len(features)),
            conditions=self.conditions,
        )

    def device_design(self) -> Design:
        """The features by device use; they should add up to the share of it that is not reserved."""
        features = device_features(self.context_bytes)
        return Design(
            shares=_shares(features.values(), of_bytes=self.device_bytes),
            target=1 - self.reserved_bytes / self.device_bytes,
            owners=_numbered(self.models),
            neutral=np.array([1.0 if name == CONTEXT else 0.0 for name in features]),
            conditions=self.conditions,
        )


def make_case(formula: Formula, sample: Sample) -> Case:
    """Puts a formula and the records it speaks of side by side."""
    records = (*sample.records, *sample.out_of_memory)
    jobs = [record.spec for record in records]
    evaluated = evaluate_jobs(formula, jobs)
    positions = np.array([at for at in range(len(jobs)) if at not in evaluated.refused], dtype=np.int64)
    spoken = [records[at] for at in positions]
    num_finished = int((positions < len(sample.records)).sum())
    peaks = [record.peak for record in spoken[:num_finished]]
    unfinished = [1] * (len(spoken) - num_finished)
    devices = [record.device for record in spoken]
    context = [device.context_bytes if device else None for device in devices]
    used = [*(peak.device_used_bytes if peak else None for peak in peaks), *[None for _ in unfinished]]
    return Case(
        formula=formula,
        positions=positions,
        refused=Counter(evaluated.refused[at] for at in evaluated.refused if at < len(sample.records)),
        conditions=tuple(conditions_of(record.spec) for record in spoken),
        models=np.array([record.spec.model for record in spoken], dtype=np.str_),
        studies=np.array([sample.study_of(record) for record in spoken], dtype=np.str_),
        cards=np.array([device.id if device else "" for device in devices], dtype=np.str_),
        evaluated=evaluated.of(positions),
        is_finished=np.arange(len(spoken)) < num_finished,
        is_free=np.isin(positions, np.flatnonzero(sample.is_free)),
        tells_of_device=np.array([None not in pair for pair in zip(used, context, strict=True)], dtype=bool),
        allocated_bytes=_whole([*(peak.allocated_bytes if peak else 1 for peak in peaks), *unfinished]),
        reserved_bytes=_whole([*(peak.reserved_bytes if peak else 1 for peak in peaks), *unfinished]),
        device_bytes=_whole([1 if size is None else size for size in used]),
        context_bytes=_whole([size or 0 for size in context]),
        total_bytes=_whole([device.total_bytes if device else 0 for device in devices]),
    )


def _whole(numbers: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(numbers), dtype=np.int64)


def _shares(quantities: Iterable[Quantity], *, of_bytes: NDArray[np.int64]) -> Floats:
    """[num_records, 1, num_features]; a quantity that is one number is the same in every record."""
    columns = [np.broadcast_to(quantity, len(of_bytes)) / of_bytes for quantity in quantities]
    return np.stack(columns, axis=1)[:, None, :]


def _numbered(names: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1]
