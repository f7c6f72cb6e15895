"""How far a figure may be from its corrected value: quantiles of what models left out have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from profiler.estimate.factors import Condition, IntervalGroup, Where, round_factor
from profiler.fit.solve import matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from profiler.fit.solve import Floats

LEVEL: Final = 0.9
"""How many of the figures an interval should hold."""
_LEVELS: Final = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
_BY: Final[tuple[Condition, ...]] = ("method", "checkpointing")
_MIN_RECORDS: Final = 10
"""Fewer tell next to nothing. Below 19, whose range is a 90 % interval of one more, the range is taken."""
_MIN_MODELS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """Figures relative to what was predicted for them by factors that never saw them, a row a record.

    Attributes:
        values: figure by prediction; NaN where the record does not tell.
        models: the model of each.
        studies: the study of each.
        conditions: what decides the group of each.
    """

    values: Floats
    models: NDArray[np.str_]
    studies: NDArray[np.str_]
    conditions: tuple[Where, ...]

    def of(self, rows: NDArray[np.bool_]) -> Ratios:
        """The same of some of the records."""
        return Ratios(
            values=self.values[rows],
            models=self.models[rows],
            studies=self.studies[rows],
            conditions=tuple(where for where, is_in in zip(self.conditions, rows, strict=True) if is_in),
        )


def fit_intervals(ratios: Ratios) -> tuple[IntervalGroup, ...]:
    """The 90 % intervals of a figure relative to its value, of all jobs and of each large enough group.

    Each holds that many of the records of every study: one of a grid has jobs that people run, one of random
    jobs those that nobody thought of, and the larger of them must not speak for the other.
    """
    known = ratios.of(np.isfinite(ratios.values))
    studies = sorted(set(known.studies.tolist()))
    of_studies = (
        [_intervals(known.of(known.studies == study)) for study in studies] if len(studies) > 1 else []
    )
    same = [group for groups in of_studies for group in groups]
    return tuple(
        _around(group, *(one for one in same if one.where == group.where)) for group in _intervals(known)
    )


def _intervals(known: Ratios) -> list[IntervalGroup]:
    """The intervals of some records, the first of all of them.

    These are conformal: of n ratios, the low end at a level is the floor((n + 1) (1 - level) / 2)-th from
    below and the high end as many from above. Records of one model resemble each other, so that at a level
    of 90 % intervals made from some models hold less than 90 % of the records of another: the level is the
    lowest at which they hold as many, models left out one by one.
    """
    wheres = _wheres(known.conditions)
    groups = _numbered(known.conditions, wheres)
    level = _fitting_level(known, groups, num_groups=len(wheres))
    everything = _ends(known.values, level=level)
    intervals = [_as_group({}, everything, num_records=len(groups))]
    for number, where in enumerate(wheres):
        rows = groups == number
        if _is_enough(known.models, rows):
            ends = _ends(known.values[rows], level=level)
            intervals.append(_as_group(where, ends, num_records=int(rows.sum())))
    return intervals


def _around(group: IntervalGroup, *parts: IntervalGroup) -> IntervalGroup:
    """The interval of some records, made wide enough for those of parts of them."""
    low, high = min(part.low for part in (group, *parts)), max(part.high for part in (group, *parts))
    return group.model_copy(update={"low": low, "high": high})


def held_out_intervals(ratios: Ratios, *, labels: NDArray[np.str_]) -> tuple[Floats, Floats]:
    """The low and high end of each record's interval, made from the records of all other labels.

    Args:
        ratios: of records, of which those that do not tell get an interval too.
        labels: what is left out together: the model, or the card, of each.
    """
    ends = np.full((2, len(labels)), np.nan)
    for label in np.unique(labels):
        others = (labels != label) & np.isfinite(ratios.values)
        if others.any():
            intervals = fit_intervals(ratios.of(others))
            for group in sorted(intervals, key=lambda group: len(group.where)):  # the more specific last
                rows = (labels == label) & matching(ratios.conditions, group.where)
                ends[:, rows] = [[group.low], [group.high]]
    return ends[0], ends[1]


def _fitting_level(ratios: Ratios, groups: NDArray[np.int64], *, num_groups: int) -> float:
    """The lowest level at which intervals made without a model hold 90 % of the records of models."""
    for level in _LEVELS:
        if _held(ratios, groups, num_groups=num_groups, level=level) >= LEVEL:
            return level
    return _LEVELS[-1]


def _held(ratios: Ratios, groups: NDArray[np.int64], *, num_groups: int, level: float) -> float:
    num_held = 0
    for model in set(ratios.models.tolist()):
        out = ratios.models == model
        if out.all():
            return 0.0  # there is no other model to learn from
        ends = np.tile(_ends(ratios.values[~out], level=level), (num_groups, 1))
        for number in set(groups[out].tolist()):
            rows = (groups == number) & ~out
            if _is_enough(ratios.models, rows):
                ends[number] = _ends(ratios.values[rows], level=level)
        low, high = ends[groups[out]].T
        num_held += int(((low <= ratios.values[out]) & (ratios.values[out] <= high)).sum())
    return num_held / len(groups)


def _ends(values: Floats, *, level: float) -> tuple[float, float]:
    outside = max(math.floor((len(values) + 1) * (1 - level) / 2), 1)
    ordered = np.sort(values)
    return float(ordered[outside - 1]), float(ordered[-outside])


def _as_group(where: Where, ends: tuple[float, float], *, num_records: int) -> IntervalGroup:
    low, high = map(round_factor, ends)
    return IntervalGroup(where=where, low=low, high=high, num_records=num_records)


def _is_enough(models: NDArray[np.str_], rows: NDArray[np.bool_]) -> bool:
    return int(rows.sum()) >= _MIN_RECORDS and len(set(models[rows].tolist())) >= _MIN_MODELS


def _wheres(conditions: Sequence[Where]) -> list[Where]:
    distinct = {tuple(where[name] for name in _BY) for where in conditions}
    return [dict(zip(_BY, values, strict=True)) for values in sorted(distinct, key=str)]


def _numbered(conditions: Sequence[Where], wheres: Sequence[Where]) -> NDArray[np.int64]:
    return np.array(
        [next(n for n, where in enumerate(wheres) if where.items() <= of.items()) for of in conditions],
        dtype=np.int64,
    )
