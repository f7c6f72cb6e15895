"""How far a formula is off, as its author gives it and once corrected, on models and cards it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from profiler.fit.components import TermError, term_errors
from profiler.fit.fit import Fitted, Unfitted
from profiler.fit.hold_out import Predicted, hold_out
from profiler.fit.intervals import held_out_intervals
from profiler.fit.score import Score, score
from profiler.fit.trust import Trust, trust

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from profiler.fit.case import Case
    from profiler.fit.sample import Sample
    from profiler.formula.breakdown import Formula


class FigureName(StrEnum):
    """A figure that is predicted."""

    ALLOCATED = "allocated"
    RESERVED = "reserved"
    DEVICE_USED = "device used"


class Stage(StrEnum):
    """What predicted it: the formula alone, or with factors of all other models, or all other cards."""

    BARE = "as published"
    MODELS = "fitted, models left out"
    CARDS = "fitted, cards left out"


class Believed(StrEnum):
    """Which figure somebody believes: the formula's own, the corrected one, or its upper end."""

    BARE = "as published"
    VALUE = "corrected value"
    HIGH = "high end of the interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLine:
    """The score of one figure at one stage."""

    figure: FigureName
    stage: Stage
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What became of one formula.

    Attributes:
        formula: the formula.
        num_refused: how many of the finished records it says nothing of.
        unfitted: why it has no factors; empty where it has.
        lines: scores by figure and stage; none where it speaks of no record, those of a fit only where there
            is one, those of cards left out only where there are several cards.
        trusted: what came of believing it, by what was believed.
        term_errors: which of its terms are wrong, before any factor.
    """

    formula: Formula
    num_refused: int
    unfitted: str
    lines: tuple[ScoreLine, ...]
    trusted: dict[Believed, Trust]
    term_errors: tuple[TermError, ...]

    def score(self, figure: FigureName, stage: Stage) -> Score | None:
        """The score of a figure at a stage, if there is one."""
        scores = (line.score for line in self.lines if (line.figure, line.stage) == (figure, stage))
        return next(scores, None)


def validate(fitted: Fitted | Unfitted, sample: Sample) -> Validation:
    """Tests a formula, and its factors on records that they did not see."""
    case = fitted.case
    return Validation(
        formula=case.formula,
        num_refused=sum(case.refused.values()),
        unfitted=fitted.reason if isinstance(fitted, Unfitted) else "",
        lines=(*_bare_lines(case), *(() if isinstance(fitted, Unfitted) else _fitted_lines(fitted))),
        trusted=dict(_trusted(fitted)) if case.is_finished.any() else {},
        term_errors=term_errors(case, sample) if case.is_finished.any() else (),
    )


def _fitted_lines(fitted: Fitted) -> Iterator[ScoreLine]:
    case = fitted.case
    yield from _lines(case, fitted.held_out, stage=Stage.MODELS, labels=case.models)
    if len(set(case.cards[case.is_finished].tolist())) > 1:
        by_card = hold_out(case, fitted.designs, chosen=fitted.chosen, labels=case.cards)
        yield from _lines(case, by_card, stage=Stage.CARDS, labels=case.cards)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    """One figure of the records, and which of them tell of it."""

    name: FigureName
    actual: NDArray[np.int64]
    rows: NDArray[np.bool_]


def _figures(case: Case) -> tuple[_Figure, ...]:
    free = case.is_finished & case.is_free
    return (
        _Figure(name=FigureName.ALLOCATED, actual=case.allocated_bytes, rows=case.is_finished),
        _Figure(name=FigureName.RESERVED, actual=case.reserved_bytes, rows=free),
        _Figure(name=FigureName.DEVICE_USED, actual=case.device_bytes, rows=free & case.tells_of_device),
    )


def _bare_lines(case: Case) -> Iterator[ScoreLine]:
    """The formula's one figure beside each figure that its author may mean."""
    for figure in _figures(case):
        if figure.rows.any():
            errors = score(case.bare_bytes[figure.rows], figure.actual[figure.rows])
            yield ScoreLine(figure=figure.name, stage=Stage.BARE, score=errors)


def _lines(
    case: Case, predicted: Predicted, *, stage: Stage, labels: NDArray[np.str_]
) -> Iterator[ScoreLine]:
    said = (predicted.allocated, predicted.reserved, predicted.device_used)
    for figure, values in zip(_figures(case), said, strict=True):
        ratios = case.ratios(np.where(figure.rows, figure.actual / values, np.nan))
        rows = np.isfinite(ratios.values)
        if not rows.any():
            continue
        low, high = held_out_intervals(ratios, labels=labels)
        is_within = (low <= ratios.values) & (ratios.values <= high)
        errors = score(values[rows], figure.actual[rows], is_within=is_within[rows])
        yield ScoreLine(figure=figure.name, stage=stage, score=errors)


def _trusted(fitted: Fitted | Unfitted) -> Iterator[tuple[Believed, Trust]]:
    case = fitted.case
    yield Believed.BARE, trust(case, case.bare_bytes, has_context=False)
    if isinstance(fitted, Unfitted) or fitted.factors.device_gap is None:
        return
    predicted, rows = fitted.held_out.device_used, _figures(case)[-1].rows
    ratios = case.ratios(np.where(rows, case.device_bytes / predicted, np.nan))
    _, high = held_out_intervals(ratios, labels=case.models)
    yield Believed.VALUE, trust(case, predicted, has_context=True)
    yield Believed.HIGH, trust(case, predicted * high, has_context=True)
