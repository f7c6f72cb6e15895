"""What a factor file looks like in Markdown: the records behind it, and every factor with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.markdown.write import code, escape, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.estimate.factors import Factor, FactorFile, FactorGroup, Where

_LEGEND = """\
What each term is multiplied by to give allocated memory, with its 90 % interval from resampling whole
models. A factor that the records do not determine is left at 1. Terms with equal factors and intervals
stand in one ratio in all records, and are one quantity to a fit.
"""
_NEAR = (0.9, 1.1)


def describe_records(factors: FactorFile) -> str:
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


def factor_parts(factors: FactorFile) -> Iterator[str]:
    """The factors of allocated memory of every formula, group by group."""
    yield f"## Factors ({' and '.join(factors.fitted_on.device_kinds)})\n\n{_LEGEND}"
    for name, own in factors.formulas.items():
        yield f"### {code(name)}\n\n{escape(own.allocated.reason)}.\n"
        rows = [
            [describe_where(group.where), code(term), *_cells(factor)]
            for group in own.allocated.factors
            for term, factor in group.factors.items()
        ]
        yield table(["jobs", "term", "note", "factor", "90 % interval"], rows, num_left=3)
        far = [text for group in own.allocated.factors for text in _far(group)]
        if far:
            yield f"Outside {_NEAR[0]} to {_NEAR[1]}: {', '.join(far)}.\n"


def describe_where(where: Where) -> str:
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
            yield f"{code(term)} of {describe_where(group.where)} jobs ({factor.value:.2f})"
