"""Which files the test of formulas is published as: all of them can be made again from the records."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from profiler.files import text_below, write_file
from profiler.report.markdown.formulas import FORMULAS_END_MARK, formulas_readme
from profiler.report.markdown.write import code
from profiler.text import csv_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from profiler.estimate.factors import FactorFile
    from profiler.fit.score import Score
    from profiler.fit.validate import Validation

_SCORES = ["formula", "figure", "stage", "num_jobs", "median", "p90", "p95", "bias", "coverage"]
_TRUST = ["formula", "believed", "num_jobs", "out_of_memory", "too_large", "num_failed", "let_through"]
_TERMS = ["formula", "component", "terms", "num_jobs", "median", "bias", "of_peak"]
_FACTORS = ["formula", "figure", "jobs", "term", "factor", "low", "high", "status", "reason"]
_FILES = (
    "`scores.csv`: every score, by formula, figure and stage.",
    "`trust.csv`: what comes of believing each.",
    "`terms.csv`: the errors of terms.",
    "`factors.csv`: every factor, those of the gaps of reserved memory and device use too.",
)


def publish_formulas(
    directory: Path,
    validations: Sequence[Validation],
    factors: FactorFile,
    *,
    command: str,
    factors_path: str,
) -> tuple[Path, ...]:
    """Writes `README.md` and the tables of tested formulas; returns their paths.

    Args:
        directory: where they go.
        validations: the formulas, in the order to show them.
        factors: what was fitted.
        command: what makes the files again.
        factors_path: where the factor file is, for a reader.

    Raises:
        ConfigError: if the README that is there cannot be read.
        EnvironmentUnfitError: if a file cannot be written.
    """
    readme = directory / "README.md"
    own_text = text_below(FORMULAS_END_MARK, readme)  # read before anything is written
    files = (*_FILES, f"{code(factors_path)}: the factors as `peakvram estimate` reads them.")
    write_file(readme, formulas_readme(validations, factors, command=command, files=files) + own_text)
    tables = {
        "scores.csv": (_SCORES, _score_rows(validations)),
        "trust.csv": (_TRUST, _trust_rows(validations)),
        "terms.csv": (_TERMS, _term_rows(validations)),
        "factors.csv": (_FACTORS, _factor_rows(factors)),
    }
    for name, (headings, rows) in tables.items():
        write_file(directory / name, csv_text(headings, rows))
    return (readme, *(directory / name for name in tables))


def _score_rows(validations: Iterable[Validation]) -> Iterator[list[str]]:
    for validation in validations:
        for line in validation.lines:
            yield [validation.formula.id, str(line.figure), str(line.stage), *_score_cells(line.score)]


def _score_cells(score: Score) -> list[str]:
    shares = (score.median, score.p90, score.p95, score.bias)
    coverage = "" if score.coverage is None else _share(score.coverage)
    return [str(score.num_jobs), *map(_share, shares), coverage]


def _trust_rows(validations: Iterable[Validation]) -> Iterator[list[str]]:
    for validation in validations:
        for believed, trust in validation.trusted.items():
            shares = [_share(trust.out_of_memory), _share(trust.too_large)]
            failed = [str(trust.num_failed), _share(trust.let_through)]
            yield [validation.formula.id, str(believed), str(trust.num_jobs), *shares, *failed]


def _term_rows(validations: Iterable[Validation]) -> Iterator[list[str]]:
    for validation in validations:
        for error in validation.term_errors:
            shares = map(_share, (error.median, error.bias, error.of_peak))
            yield [
                validation.formula.id,
                error.component,
                " ".join(error.terms),
                str(error.num_jobs),
                *shares,
            ]


def _factor_rows(factors: FactorFile) -> Iterator[list[str]]:
    for name, own in factors.formulas.items():
        figures = {"allocated": own.allocated, "reserved gap": own.reserved_gap, "device gap": own.device_gap}
        for figure, part in figures.items():
            for group in part.factors if part else ():
                where = " ".join(f"{key}={value}" for key, value in group.where.items())
                for term, factor in group.factors.items():
                    interval = [str(factor.value), str(factor.low), str(factor.high)]
                    yield [name, figure, where, term, *interval, factor.status, factor.reason]


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"  # there was nothing to count
