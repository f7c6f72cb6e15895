"""`peakvram estimate`: what a job should take, by formula, with nothing run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.job import read_job
from profiler.errors import ConfigError
from profiler.report.terminal.output import data_output, notice, print_json_value

if TYPE_CHECKING:
    from profiler.estimate.card import Card
    from profiler.estimate.estimate import Estimated
    from profiler.estimate.factors import FactorFile
    from profiler.jobs.job import JobSpec

FormulaId = Annotated[
    str | None, typer.Option("--formula", metavar="NAME", help="The formula to ask (default peakvram)")
]
AllFormulas = Annotated[
    bool, typer.Option("--all-formulas", metavar="", help="Ask every formula, and show them side by side.")
]
Factors = Annotated[
    Path | None,
    typer.Option("--factors", metavar="FILE", help="Correction factors to use (default: the shipped ones)"),
]
NoFactors = Annotated[
    bool, typer.Option("--no-factors", metavar="", help="The bare formula, as its author gives it.")
]


def estimate(  # noqa: PLR0913 - one parameter a flag
    *,
    model: o.Model = None,
    weights: o.Weights = None,
    revision: o.Revision = None,
    method: o.Method = None,
    rank: o.Rank = None,
    alpha: o.Alpha = None,
    dropout: o.Dropout = None,
    targets: o.Targets = None,
    quant: o.Quant = None,
    double_quant: o.DoubleQuant = None,
    kbit_prepare: o.KbitPrepare = None,
    compute_dtype: o.ComputeDtype = None,
    dora: o.Dora = None,
    rslora: o.RsLora = None,
    trl_casting: o.TrlCasting = None,
    new_tokens: o.NewTokens = None,
    batch_size: o.BatchSize = None,
    seq_len: o.SeqLen = None,
    gradient_checkpointing: o.Checkpointing = None,
    reentrant: o.Reentrant = None,
    optimizer: o.Optimizer = None,
    precision: o.Precision = None,
    attention: o.Attention = None,
    attention_mask: o.AttentionMask = None,
    loop: o.Loop = None,
    steps: o.Steps = None,
    gpu: o.Gpu = None,
    gpu_memory: o.GpuMemory = None,
    alloc_conf: o.AllocConf = None,
    config: o.Config = None,
    set_: o.Set = None,
    formula: FormulaId = None,
    all_formulas: AllFormulas = False,
    factors: Factors = None,
    no_factors: NoFactors = False,
    json: o.Json = False,
) -> int:
    """Estimate a job's GPU memory from its model's shapes; nothing is run.

    A formula gives the terms, factors fitted on records correct them and give the interval.

    \b
    peakvram estimate llama-3.1-8b --method qlora --gpu rtx-4090
    peakvram estimate llama-3.1-70b --method lora --gpu h100-80gb --all-formulas
    peakvram estimate --config job.yaml --formula orbit2x-lora --no-factors --json

    Exit codes: 0 done (a job that does not fit is an answer), 2 usage, or a job that the formula does not
    speak of, 3 unfit environment.
    """  # noqa: D301 - \b keeps the examples' lines apart
    given = {name: value for name, value in locals().items() if name not in _NOT_OF_THE_JOB}
    spec, reason = read_job(config=config, flags=given, settings=set_ or [], environ=os.environ)
    if reason:
        notice(reason)
    file = read_factor_file(factors, is_bare=no_factors)
    if not all_formulas:
        return _estimate_one(spec, formula_id=formula, factors=file, as_json=json)
    if formula is not None:
        raise ConfigError("--formula names one, --all-formulas all", hint="leave out one of them")
    return _compare(spec, factors=file, as_json=json)


_NOT_OF_THE_JOB = {"config", "set_", "formula", "all_formulas", "factors", "no_factors", "json"}


def read_factor_file(path: Path | None, *, is_bare: bool) -> FactorFile | None:
    """The factors that two flags ask for; None for the bare formula.

    Raises:
        ConfigError: if they contradict each other, or the file is none.
    """
    from profiler.estimate.factors import default_factors, read_factors  # noqa: PLC0415 - not for --help

    if path is not None and is_bare:
        raise ConfigError("--factors and --no-factors contradict each other", hint="leave out one of them")
    if is_bare:
        return None
    return default_factors() if path is None else read_factors(path)


def _estimate_one(spec: JobSpec, *, formula_id: str | None, factors: FactorFile | None, as_json: bool) -> int:
    from profiler.estimate.card import card_of  # noqa: PLC0415 - not for --help
    from profiler.estimate.estimate import DEFAULT_FORMULA, Refusal, estimate_job  # noqa: PLC0415
    from profiler.formula.catalogue import find_formula  # noqa: PLC0415

    asked = find_formula(formula_id or DEFAULT_FORMULA)
    estimated = estimate_job(spec, formula=asked, factors=factors, card=card_of(spec))
    if isinstance(estimated, Refusal):
        raise ConfigError(
            f"formula {asked.id} does not speak of this job: {estimated.reason}",
            hint="--all-formulas shows which ones do; `peakvram run` runs the job on a virtual card",
        )
    if as_json:
        from profiler.report.base.estimate_tree import estimate_tree  # noqa: PLC0415

        print_json_value(estimate_tree(estimated, factors=factors))
        return 0
    from profiler.report.terminal.estimate import show_estimate  # noqa: PLC0415

    with data_output() as console:
        show_estimate(console, estimated, factors=factors)
    return 0


def _compare(spec: JobSpec, *, factors: FactorFile | None, as_json: bool) -> int:
    from profiler.estimate.card import card_of  # noqa: PLC0415 - not for --help
    from profiler.estimate.estimate import estimate_job  # noqa: PLC0415
    from profiler.formula.catalogue import all_formulas  # noqa: PLC0415

    card = card_of(spec)
    estimates = [estimate_job(spec, formula=asked, factors=factors, card=card) for asked in all_formulas()]
    _show_all(estimates, card=card, factors=factors, as_json=as_json)
    return 0


def _show_all(estimates: list[Estimated], *, card: Card, factors: FactorFile | None, as_json: bool) -> None:
    if as_json:
        from profiler.report.base.estimate_tree import estimate_tree  # noqa: PLC0415

        print_json_value([estimate_tree(estimated, factors=factors) for estimated in estimates])
        return
    from profiler.report.terminal.estimate import show_comparison  # noqa: PLC0415

    with data_output() as console:
        show_comparison(console, estimates, card=card, factors=factors)
