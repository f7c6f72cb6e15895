"""What a fit looks like on a terminal: one row a formula, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.fit.validate import FigureName, Stage
from profiler.report.base.text import UNKNOWN, left, literal, percent, right, titled_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Group
    from rich.text import Text

    from profiler.estimate.factors import FactorFile
    from profiler.fit.score import Score
    from profiler.fit.validate import Validation

_COLUMNS = left("formula") | right(
    "jobs", "median, as published", "95th", "median, fitted", "95th, fitted", "held", "reserved"
)


def fit_table(validations: Sequence[Validation], factors: FactorFile) -> Group:
    """Errors of the peak of allocated memory, and of reserved memory at the end, models left out."""
    kinds = " and ".join(factors.fitted_on.device_kinds)
    title = f"Error of the peak of allocated memory, {kinds} records, models left out"
    return titled_table(title, _COLUMNS, map(_cells, validations))


def fit_lines(validations: Sequence[Validation], factors: FactorFile) -> Iterator[Text]:
    """What there is to say below the table: the records, and the formulas that have no factors."""
    on = factors.fitted_on
    yield literal(
        f"{on.num_records} {' and '.join(on.device_kinds)} records of {len(on.models)} models "
        f"on {' and '.join(on.cards)}"
    )
    for one in validations:
        if one.unfitted:
            yield literal(f"no factors for {one.formula.id}: {one.unfitted}")


def _cells(validation: Validation) -> list[str]:
    bare = validation.score(FigureName.ALLOCATED, Stage.BARE)
    fitted = validation.score(FigureName.ALLOCATED, Stage.MODELS)
    reserved = validation.score(FigureName.RESERVED, Stage.MODELS)
    return [
        validation.formula.id,
        str(bare.num_jobs) if bare else "0",
        *_median_and_95th(bare),
        *_median_and_95th(fitted),
        percent(fitted.coverage) if fitted else UNKNOWN,
        _median_and_95th(reserved)[0],
    ]


def _median_and_95th(score: Score | None) -> tuple[str, str]:
    return (percent(score.median), percent(score.p95)) if score else (UNKNOWN, UNKNOWN)
