"""`peakvram fit`: correction factors of formulas from the records of studies, and how good they are."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o
from profiler.records.redact import redact_command
from profiler.report.base.text import literal, public_path
from profiler.report.terminal.output import data_output, message_console, notice, print_json_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.fit.fit import Fitted, Unfitted
    from profiler.fit.sample import Sample
    from profiler.fit.validate import Validation

Studies = Annotated[
    list[Path],
    typer.Argument(metavar="DIR", help="Studies: what `peakvram sweep` has written.", show_default=False),
]
FitOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the tables go (default results/formulas)")
]
FactorsTo = Annotated[
    Path | None,
    typer.Option("--factors", metavar="FILE", help="Where the factors go (default DIR/factors.json)"),
]
FormulaIds = Annotated[
    list[str] | None,
    typer.Option("--formula", metavar="NAME", help="Fit this formula alone. Repeatable (default all)"),
]
Validate = Annotated[
    bool, o.switch("--validate", "Write the tables of the tests too, for people and programs.")
]
Mix = Annotated[bool, o.switch("--mix", "Let virtual and real records be fitted together.")]
_MAX_SKIPPED = 10


def fit(  # noqa: PLR0913 - one parameter a flag
    *,
    directories: Studies,
    formula: FormulaIds = None,
    validate: Validate = False,
    mix: Mix = False,
    out: FitOut = None,
    factors: FactorsTo = None,
    json: o.Json = False,
) -> int:
    """Fit correction factors of formulas to records, and say how far each formula is off before and after.

    Errors are of models that the factors never saw: each is left out once. The factors are written as JSON,
    which `peakvram estimate --factors` reads.

    \b
    peakvram fit results/rtx-4090 results/a100-80gb
    peakvram fit results/rtx-4090 results/a100-80gb --validate --factors configs/factors.json

    Exit codes: 0 done, 2 no or too few records, virtual and real ones mixed, 3 a file cannot be written.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.estimate.factors import write_factors  # noqa: PLC0415 - not for --help
    from profiler.fit.fit import Fitted, factor_file  # noqa: PLC0415 - not for --help
    from profiler.report.terminal.fit import fit_tree, show_fit  # noqa: PLC0415 - not for --help

    place = out or Path("results/formulas")
    sample = _read(directories, is_mix_allowed=mix)
    results = _fit(sample, formula or ())
    fitted = factor_file([result for result, _ in results if isinstance(result, Fitted)], sample)
    validations = [validation for _, validation in results]
    paths = [factors or place / "factors.json"]
    write_factors(paths[0], fitted)
    if validate:
        from profiler.report.files.formulas import publish_formulas  # noqa: PLC0415 - not for --help

        command = _command(directories, formula, mix=mix, out=out, factors=factors)
        paths += publish_formulas(
            place, validations, fitted, command=command, factors_path=public_path(paths[0])
        )
    if json:
        print_json_value(fit_tree(validations, fitted, paths))
    else:
        with data_output() as console:
            show_fit(console, validations, fitted, paths)
    return 0


def _read(directories: Sequence[Path], *, is_mix_allowed: bool) -> Sample:
    from profiler.fit.sample import read_sample  # noqa: PLC0415 - not for --help

    sample = read_sample(directories, is_mix_allowed=is_mix_allowed)
    for skipped in sample.skipped[:_MAX_SKIPPED]:
        notice(f"skipped {skipped.name}: {skipped.reason}")
    if len(sample.skipped) > _MAX_SKIPPED:
        notice(f"skipped {len(sample.skipped) - _MAX_SKIPPED} more")
    return sample


def _fit(sample: Sample, names: Sequence[str]) -> list[tuple[Fitted | Unfitted, Validation]]:
    """Fits and tests formulas, saying on stderr which one it is at."""
    from profiler.fit.fit import fit_formula  # noqa: PLC0415 - not for --help
    from profiler.fit.validate import validate  # noqa: PLC0415 - not for --help
    from profiler.formula.catalogue import all_formulas, find_formula  # noqa: PLC0415 - not for --help

    formulas = [find_formula(name) for name in dict.fromkeys(names)] or list(all_formulas())
    results = []
    with message_console().status(literal("")) as status:
        for number, formula in enumerate(formulas, start=1):
            status.update(literal(f"{formula.id}, {number} of {len(formulas)}"))
            result = fit_formula(formula, sample)
            results.append((result, validate(result, sample)))
    return results


def _command(
    directories: Sequence[Path],
    names: Sequence[str] | None,
    *,
    mix: bool,
    out: Path | None,
    factors: Path | None,
) -> str:
    """What to type to make the tables again, wherever the studies are."""
    parts = ["peakvram", "fit", *map(public_path, directories)]
    parts += [text for name in names or () for text in ("--formula", name)]
    parts += ["--validate", *(["--mix"] if mix else [])]
    parts += [] if out is None else ["--out", public_path(out)]
    parts += [] if factors is None else ["--factors", public_path(factors)]
    return shlex.join(redact_command(parts))
