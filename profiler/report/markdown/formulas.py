"""What the test of formulas looks like in Markdown: how far each is off, and what corrects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.fit.validate import FigureName, Stage
from profiler.report.base.describe import VIRTUAL_FIGURES
from profiler.report.base.text import UNKNOWN, percent
from profiler.report.markdown.write import code, escape, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.estimate.factors import Factor, FactorFile, FactorGroup, Where
    from profiler.fit.score import Score
    from profiler.fit.validate import Validation

FORMULAS_END_MARK = "<!-- What is above this line is written by `peakvram fit`; what is below is kept. -->"

_ALLOCATED = """\
Errors of the peak of allocated memory, relative to the record's: median, 90th and 95th percentile of the
absolute error, and its mean with the sign (below 0 the formula says too little). *As published* is the
formula as its author gives it. *Fitted* is the formula with factors fitted to the records of all other
models: each model is left out once, and predicted by factors that never saw it. *Held* is the share of
records within their 90 % interval, which was made from the other models too.
"""
_CARDS = """\
The same with each card left out once, by factors and intervals from the other cards. These cards hold the
same models, but a larger card holds larger jobs.
"""
_GAPS = """\
Reserved memory is allocated memory and what PyTorch's allocator keeps on top, device use is reserved memory
and the CUDA context. Both are predicted from the formula's own terms, models left out. Jobs that ran into
their card's capacity and tried again, and jobs under other allocator settings, are left out here. Under *as
published* the formula's one figure is compared with each.
"""
_TRUST = """\
Each finished job gets the smallest card of the catalogue that the estimate says is enough. *Out of memory*:
the share of jobs that need more than that card has. *Too large*: the share for which a smaller card would
have been enough. *Let through*: of the jobs that ran out of memory on their own card, the share that the
estimate says fits it. *As published* believes the formula's figure, *corrected value* the corrected device
use, *high end of the interval* the upper end of its 90 % interval; factors and intervals are from other
models.
"""
_TERMS = """\
Terms as published, beside the tensors themselves, which were counted at the end of the phase that has all
of them: weights (and the state of quantization) and adapters before the first step, gradients after the
backward pass, optimizer state after the step, activations after the forward pass, logits included. *Error*
is the median of the absolute difference, *bias* the median with its sign, both relative to the tensors; *of
the peak* is the median of the absolute difference relative to the peak of allocated memory.
"""


def formulas_readme(
    validations: Sequence[Validation], factors: FactorFile, *, command: str, files: Sequence[str]
) -> str:
    """The README of tested formulas, from their tests and their factors.

    Args:
        validations: the formulas, in the order to show them.
        factors: what was fitted.
        command: what made it.
        files: the names of the files beside it, and what each holds, a line each.
    """
    kinds = " and ".join(factors.fitted_on.device_kinds)
    parts = [
        f"# Formulas, tested and corrected ({kinds})\n",
        _describe_records(factors),
        f"{VIRTUAL_FIGURES}\n" if "virtual" in factors.fitted_on.device_kinds else "",
        f"## Peak allocated ({kinds})\n\n{_ALLOCATED}",
        _allocated_table(validations),
        *_silent_parts(validations),
        *_card_parts(validations, kinds=kinds),
        f"## Reserved memory and device use ({kinds})\n\n{_GAPS}",
        _gap_table(validations),
        f"## If the estimate were believed ({kinds})\n\n{_TRUST}",
        _trust_table(validations),
        *_term_parts(validations, kinds=kinds),
        *_factor_parts(factors),
        f"## How it was made\n\n    {command}\n",
        "\n".join(["## Files\n", *(f"- {line}" for line in files)]) + "\n",
        f"{FORMULAS_END_MARK}\n",
    ]
    return "\n".join(part for part in parts if part)


def _errors(score: Score | None) -> list[str]:
    """The cells of a score: median, 90th and 95th percentile, and bias."""
    if score is None:
        return [UNKNOWN] * 4
    absolute = map(percent, (score.median, score.p90, score.p95))
    return [*absolute, percent(score.bias, has_sign=True)]


def _allocated_table(validations: Sequence[Validation]) -> str:
    headings = ["formula", "jobs", "as published: median", "90th", "95th", "bias"]
    headings += ["fitted: median", "90th", "95th", "bias", "held"]
    rows = []
    for one in validations:
        bare, fitted = (one.score(FigureName.ALLOCATED, stage) for stage in (Stage.BARE, Stage.MODELS))
        num_jobs = str(bare.num_jobs) if bare else "0"
        held = percent(fitted.coverage if fitted else None)
        rows.append([code(one.formula.id), num_jobs, *_errors(bare), *_errors(fitted), held])
    return table(headings, rows, num_left=1)


def _silent_parts(validations: Sequence[Validation]) -> Iterator[str]:
    """Why some formulas have no factors."""
    lines = [f"- {code(one.formula.id)}: {escape(one.unfitted)}" for one in validations if one.unfitted]
    if lines:
        yield "\n".join(["Not fitted:\n", *lines]) + "\n"


def _card_parts(validations: Sequence[Validation], *, kinds: str) -> Iterator[str]:
    rows = []
    for one in validations:
        scores = [one.score(figure, Stage.CARDS) for figure in (FigureName.ALLOCATED, FigureName.RESERVED)]
        if any(scores):
            cells = [cell for score in scores for cell in (*_errors(score), _held(score))]
            rows.append([code(one.formula.id), *cells])
    if rows:
        headings = [
            "formula",
            *("allocated: median", "90th", "95th", "bias", "held"),
            *("reserved: median", "90th", "95th", "bias", "held"),
        ]
        yield f"## Cards left out ({kinds})\n\n{_CARDS}"
        yield table(headings, rows, num_left=1)


def _gap_table(validations: Sequence[Validation]) -> str:
    headings = ["formula", "as published: reserved, median", "device, median"]
    headings += ["fitted: reserved, median", "95th", "held", "device, median", "95th", "held"]
    rows = []
    for one in validations:
        figures = (FigureName.RESERVED, FigureName.DEVICE_USED)
        bare = [_errors(one.score(figure, Stage.BARE))[0] for figure in figures]
        cells = []
        for figure in figures:
            fitted = one.score(figure, Stage.MODELS)
            cells += [_errors(fitted)[0], _errors(fitted)[2], _held(fitted)]
        rows.append([code(one.formula.id), *bare, *cells])
    return table(headings, rows, num_left=1)


def _trust_table(validations: Sequence[Validation]) -> str:
    headings = ["formula", "believed", "jobs with a card", "out of memory", "too large", "let through"]
    rows = [
        [
            code(one.formula.id),
            str(believed),
            str(trust.num_jobs),
            percent(trust.out_of_memory),
            percent(trust.too_large),
            f"{percent(trust.let_through)} of {trust.num_failed}" if trust.num_failed else UNKNOWN,
        ]
        for one in validations
        for believed, trust in one.trusted.items()
    ]
    return table(headings, rows, num_left=2)


def _term_parts(validations: Sequence[Validation], *, kinds: str) -> Iterator[str]:
    rows = [
        [
            code(one.formula.id),
            escape(error.component),
            ", ".join(code(term) for term in error.terms),
            str(error.num_jobs),
            percent(error.median),
            percent(error.bias, has_sign=True),
            percent(error.of_peak),
        ]
        for one in validations
        for error in one.term_errors
    ]
    if rows:
        yield f"## Which term is wrong ({kinds})\n\n{_TERMS}"
        headings = ["formula", "tensors", "its terms", "jobs", "error", "bias", "of the peak"]
        yield table(headings, rows, num_left=3)


def _held(score: Score | None) -> str:
    return percent(score.coverage if score else None)


_FACTORS = """\
What each term is multiplied by to give allocated memory, with its 90 % interval from resampling whole
models. A factor that the records do not determine is left at 1. Terms with equal factors and intervals
stand in one ratio in all records, and are one quantity to a fit.
"""
_NEAR = (0.9, 1.1)


def _describe_records(factors: FactorFile) -> str:
    """What a factor file was fitted on, in a paragraph."""
    on = factors.fitted_on
    kinds = " and ".join(on.device_kinds)
    versions = ", ".join(f"{name} {' and '.join(values)}" for name, values in on.versions.items() if values)
    return (
        f"From {on.num_records} {kinds} records of finished jobs, of {len(on.models)} models "
        f"({escape(', '.join(on.models))}) on {escape(' and '.join(on.cards))}, "
        f"studies {escape(' and '.join(on.studies))}: {escape(versions)}. "
        f"SHA-256 of their keys: {code(on.keys_sha256)}.\n"
    )


def _factor_parts(factors: FactorFile) -> Iterator[str]:
    """The factors of allocated memory of every formula, group by group."""
    yield f"## Factors ({' and '.join(factors.fitted_on.device_kinds)})\n\n{_FACTORS}"
    for name, own in factors.formulas.items():
        yield f"### {code(name)}\n\n{escape(own.allocated.reason)}.\n"
        rows = [
            [_describe_where(group.where), code(term), *_cells(factor)]
            for group in own.allocated.factors
            for term, factor in group.factors.items()
        ]
        yield table(["jobs", "term", "note", "factor", "90 % interval"], rows, num_left=3)
        far = [text for group in own.allocated.factors for text in _far(group)]
        if far:
            yield f"Outside {_NEAR[0]} to {_NEAR[1]}: {', '.join(far)}.\n"


def _describe_where(where: Where) -> str:
    """`all`, or what the jobs of a group share."""
    texts = []
    for name, value in where.items():
        match value:
            case bool():
                texts.append(name if value else f"no {name}")
            case _:
                texts.append(f"{value} attention" if name == "attention" else value)
    return escape(", ".join(texts)) or "all"


def _cells(factor: Factor) -> list[str]:
    interval = f"{factor.low:.3f} to {factor.high:.3f}" if factor.status == "fitted" else "-"
    return [escape(factor.reason), f"{factor.value:.3f}", interval]


def _far(group: FactorGroup) -> Iterator[str]:
    for term, factor in group.factors.items():
        if not _NEAR[0] <= factor.value <= _NEAR[1]:
            yield f"{code(term)} of {_describe_where(group.where)} jobs ({factor.value:.2f})"
