"""`peakvram estimate`: what a job should take, by formula, with nothing run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o
from profiler.cli.job import JobFlags, takes_job
from profiler.cli.miss import tell_miss_of_estimate
from profiler.errors import ConfigError
from profiler.estimate.best import best_estimate
from profiler.estimate.card import card_of
from profiler.estimate.estimate import Estimate, Refusal, estimate_job
from profiler.estimate.factors import default_factors, read_factors
from profiler.formula.catalogue import all_formulas, find_formula
from profiler.formula.configs import UnknownShapesError, config_of
from profiler.formula.derived.formula import DERIVED
from profiler.formula.derived.shelf import can_be_derived
from profiler.hardware.torch_build import find_torch_build
from profiler.jobs.model_classes import tasks_of
from profiler.report.base.estimate_tree import estimate_tree
from profiler.report.terminal.estimate import show_comparison, show_estimate
from profiler.report.terminal.output import data_output, notice, print_json_value

if TYPE_CHECKING:
    from profiler.estimate.card import Card
    from profiler.estimate.estimate import Estimated
    from profiler.estimate.factors import FactorFile
    from profiler.jobs.job import JobSpec

FormulaId = Annotated[
    str | None, typer.Option("--formula", metavar="NAME", help="The formula to ask (default peakvram)")
]
AllFormulas = Annotated[bool, o.switch("--all-formulas", "Ask every formula, and show them side by side.")]
Factors = Annotated[
    Path | None,
    typer.Option("--factors", metavar="FILE", help="Correction factors to use (default: the shipped ones)"),
]
NoDerive = Annotated[
    bool, o.switch("--no-derive", "Where no formula speaks of the job, say so, and derive none.")
]
NoFactors = Annotated[bool, o.switch("--no-factors", "The bare formula, as its author gives it.")]


@takes_job()
def estimate(  # noqa: PLR0913 - one parameter a flag
    *,
    job: JobFlags,
    formula: FormulaId = None,
    all_formulas: AllFormulas = False,
    factors: Factors = None,
    no_factors: NoFactors = False,
    no_derive: NoDerive = False,
    json: o.Json = False,
) -> int:
    """Estimate a job's GPU memory from its model's shapes; nothing is run.

    Where a formula was derived from runs of the job (`peakvram derive`), it decides. Else ours gives the
    terms, and factors fitted on records correct them and give the interval. Where neither speaks of a job,
    one is derived on the spot.

    \b
    peakvram estimate llama-3.1-8b --method qlora --gpu rtx-4090
    peakvram estimate llama-3.1-70b --method lora --gpu h100-80gb --all-formulas
    peakvram estimate --config job.yaml --formula orbit2x-lora --no-factors --json

    Exit codes: 0 done (a job that does not fit is an answer), 2 usage, or a job that the formula does not
    speak of, 3 unfit environment.
    """  # noqa: D301 - \b keeps the examples' lines apart
    spec, reasons = job.read()
    for reason in reasons:
        notice(reason)
    file = read_factor_file(factors, is_bare=no_factors)
    if not all_formulas:
        return _estimate_one(spec, formula_id=formula, factors=file, may_derive=not no_derive, as_json=json)
    if formula is not None:
        raise ConfigError("--formula names one, --all-formulas all", hint="leave out one of them")
    return _compare(spec, factors=file, as_json=json)


def read_factor_file(path: Path | None, *, is_bare: bool) -> FactorFile | None:
    """The factors that two flags ask for; None for the bare formula.

    Raises:
        ConfigError: if they contradict each other, or the file is none.
    """
    if path is not None and is_bare:
        raise ConfigError("--factors and --no-factors contradict each other", hint="leave out one of them")
    if is_bare:
        return None
    return default_factors() if path is None else read_factors(path)


def _estimate_one(
    spec: JobSpec, *, formula_id: str | None, factors: FactorFile | None, may_derive: bool, as_json: bool
) -> int:
    card = card_of(spec)
    if formula_id is None:
        estimated = _estimate_best(spec, factors=factors, card=card, may_derive=may_derive)
    elif formula_id == DERIVED.id:
        from profiler.estimate.derived import estimate_derived  # noqa: PLC0415 - few jobs have one

        estimated = estimate_derived(spec, card=card)
    else:
        estimated = estimate_job(spec, formula=find_formula(formula_id), factors=factors, card=card)
    if isinstance(estimated, Refusal):
        raise ConfigError(
            f"formula {estimated.formula.id} does not speak of this job: {estimated.reason}",
            hint="--all-formulas shows which ones do; `peakvram run` runs the job on a virtual card",
        )
    if as_json:
        print_json_value(estimate_tree(estimated, factors=factors))
    else:
        with data_output() as console:
            show_estimate(console, estimated, factors=factors)
    tell_miss_of_estimate(estimated)
    return 0


def _estimate_best(spec: JobSpec, *, factors: FactorFile | None, card: Card, may_derive: bool) -> Estimated:
    """By a derived formula, or ours; where neither speaks of a job, one is derived, if that can be."""
    try:
        estimated = best_estimate(spec, factors=factors, card=card)
    except UnknownShapesError as error:
        if not (may_derive and _can_be_derived_here(spec)):
            raise
        reason = error.message
    else:
        if isinstance(estimated, Estimate) or not (may_derive and _can_be_derived_here(spec)):
            return estimated
        reason = f"ours does not speak of this job: {estimated.reason}"
    from profiler.derive.make import make_derived  # noqa: PLC0415 - few estimates need it
    from profiler.estimate.derived import estimate_derived  # noqa: PLC0415 - as above
    from profiler.report.terminal.derived import tell_run  # noqa: PLC0415 - as above

    notice(f"{reason}; a formula is derived from virtual runs, which takes a minute or two, once")
    with tell_run(f"deriving a formula for {spec.model}") as on_run:
        made = make_derived(spec, on_run=on_run)
    notice(f"Wrote {made.path}")
    return estimate_derived(spec, card=card)


def _can_be_derived_here(spec: JobSpec) -> bool:
    """Whether the libraries are there that a derivation takes, and know the model."""
    config = config_of(spec.model, weights=spec.weights, revision=spec.revision, may_fetch=False)
    is_known = config is not None and spec.task in tasks_of(str(config["model_type"]))
    return is_known and can_be_derived(spec) and find_torch_build() is not None


def _compare(spec: JobSpec, *, factors: FactorFile | None, as_json: bool) -> int:
    from profiler.estimate.derived import estimate_derived  # noqa: PLC0415 - few estimates need it

    card = card_of(spec)
    estimates = [
        estimate_derived(spec, card=card),
        *(estimate_job(spec, formula=asked, factors=factors, card=card) for asked in all_formulas()),
    ]
    if as_json:
        print_json_value([estimate_tree(estimated, factors=factors) for estimated in estimates])
        return 0
    with data_output() as console:
        show_comparison(console, estimates, card=card, factors=factors)
    return 0
