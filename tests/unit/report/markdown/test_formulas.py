from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from profiler.errors import ConfigError
from profiler.estimate.factors import (
    Correction,
    Factor,
    FactorFile,
    FactorGroup,
    FittedOn,
    FormulaFactors,
    IntervalGroup,
)
from profiler.fit.components import TermError
from profiler.fit.score import Score
from profiler.fit.trust import Trust
from profiler.fit.validate import Believed, FigureName, ScoreLine, Stage, Validation
from profiler.report.base.text import percent
from profiler.report.files.formulas import publish_formulas
from profiler.report.terminal.fit import fit_lines, fit_table
from tests.unit.fit.made_up import MADE_UP, SILENT

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

COMMAND = "peakvram fit results/rtx-4090 --validate"


def a_score(median: float, *, coverage: float | None = None) -> Score:
    return Score(
        num_jobs=48, median=median, p90=2 * median, p95=3 * median, bias=-median / 2, coverage=coverage
    )


def a_line(figure: FigureName, stage: Stage, median: float, *, coverage: float | None = None) -> ScoreLine:
    return ScoreLine(figure=figure, stage=stage, score=a_score(median, coverage=coverage))


def some_validations() -> list[Validation]:
    lines = (
        a_line(FigureName.ALLOCATED, Stage.BARE, 0.4),
        a_line(FigureName.RESERVED, Stage.BARE, 0.5),
        a_line(FigureName.ALLOCATED, Stage.MODELS, 0.0012, coverage=0.9),
        a_line(FigureName.RESERVED, Stage.MODELS, 0.02, coverage=0.875),
        a_line(FigureName.ALLOCATED, Stage.CARDS, 0.05, coverage=0.5),
    )
    trusted = {
        Believed.BARE: Trust(num_jobs=48, out_of_memory=0.25, too_large=0.5, num_failed=3, let_through=1 / 3),
        Believed.VALUE: Trust(
            num_jobs=47, out_of_memory=0.02, too_large=0.1, num_failed=0, let_through=float("nan")
        ),
    }
    error = TermError(component="weights", terms=("weights",), num_jobs=48, median=1.0, bias=1.0, of_peak=0.3)
    return [
        Validation(
            formula=MADE_UP,
            num_refused=3,
            unfitted="",
            lines=lines,
            trusted=trusted,
            term_errors=(error,),
        ),
        Validation(
            formula=SILENT,
            num_refused=48,
            unfitted="it speaks of nothing",
            lines=(),
            trusted={},
            term_errors=(),
        ),
    ]


def some_factors() -> FactorFile:
    left = Factor(value=1, low=1, high=1, status="undetermined", reason="only 2 of the models have it")
    factors = {"weights": Factor(value=1.4, low=1.35, high=1.5), "activations": left}
    every = FactorGroup(where={}, factors=factors, num_records=48, num_models=6)
    group = FactorGroup(
        where={"method": "lora", "checkpointing": False}, factors=factors, num_records=30, num_models=4
    )
    interval = IntervalGroup(where={}, low=0.9, high=1.1, num_records=48)
    part = Correction(factors=(every, group), intervals=(interval,), reason="groups by method")
    return FactorFile(
        schema_version=1,
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
        fitted_on=FittedOn(
            device_kinds=("virtual",),
            studies=("rtx-4090",),
            num_records=48,
            keys_sha256="0" * 64,
            models=("llama_3", "qwen*"),
            cards=("rtx-4090",),
            versions={"torch": ("2.14.1",), "peft": ()},
        ),
        formulas={"made-up": FormulaFactors(allocated=part)},
    )


def publish(directory: Path) -> tuple[Path, ...]:
    validations, factors = some_validations(), some_factors()
    return publish_formulas(
        directory, validations, factors, command=COMMAND, factors_path="configs/factors.json"
    )


def test_tested_formulas_are_published(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    paths = publish(tmp_path)
    assert {path.name: path.read_text() for path in paths} == snapshot


def test_a_readme_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read .*: it is not UTF-8 text"):
        publish(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_fit_on_a_terminal(snapshot: SnapshotAssertion) -> None:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(fit_table(some_validations(), some_factors()))
        for line in fit_lines(some_validations(), some_factors()):
            console.print(line, soft_wrap=True)
    assert "\n".join(line.rstrip() for line in captured.get().splitlines()) == snapshot


@pytest.mark.parametrize(
    ("value", "has_sign", "expected"),
    [
        (0.1234, False, "12.3%"),
        (0.00123, False, "0.12%"),
        (0.0, False, "0.00%"),
        (-0.1234, True, "-12.3%"),
        (0.2, True, "+20.0%"),
        (None, False, "-"),
        (float("nan"), True, "-"),
    ],
)
def test_shares_have_as_many_digits_as_they_need(value: float | None, has_sign: bool, expected: str) -> None:
    assert percent(value, has_sign=has_sign) == expected
