"""`peakvram compare`: what changed between two studies, or two environments of one."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o
from profiler.errors import ConfigError
from profiler.records.compare import FigureName, compare_sides, read_sides
from profiler.report.base.changes import comparison_tree
from profiler.report.markdown.comparisons import changes_markdown
from profiler.report.terminal.comparisons import show_changes
from profiler.report.terminal.output import data_output, notice, print_json, print_json_value

if TYPE_CHECKING:
    from profiler.records.compare import Comparison

_PERCENT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*%", re.ASCII)
_MAX_PROBLEMS = 5


Before = Annotated[
    str,
    typer.Argument(metavar="A", help="A study, or STUDY@WHICH: one environment of it.", show_default=False),
]
After = Annotated[
    str, typer.Argument(metavar="B", help="What to compare it with, in the same way.", show_default=False)
]
FailOver = Annotated[
    str | None,
    typer.Option(
        "--fail-over",
        metavar="PERCENT",
        help="Exit with 1 if a figure changed by more than this, such as 2%, or an outcome at all.",
    ),
]
Figure = Annotated[
    FigureName,
    typer.Option("--figure", metavar="NAME", help="Which peak --fail-over looks at: allocated or reserved"),
]
AnyCard = Annotated[bool, o.switch("--any-card", "Take jobs that differ in their card alone as the same.")]
Markdown = Annotated[bool, o.switch("--markdown", "Print Markdown, with every change.")]


def compare(  # noqa: PLR0913 - one parameter a flag
    *,
    before: Before,
    after: After,
    fail_over: FailOver = None,
    figure: Figure = "allocated",
    any_card: AnyCard = False,
    markdown: Markdown = False,
    json: o.Json = False,
) -> int:
    """Compare two studies job by job: changed peaks and outcomes, jobs that are missing or new.

    WHICH names an environment of a study: the start of a fingerprint, or a version or card.

    \b
    peakvram compare results/before results/after --fail-over 2%
    peakvram compare results/mine@torch=2.8 results/mine@torch=2.9
    peakvram compare results/mine@gpu=rtx-4090 results/mine@gpu=rtx-5090 --any-card

    Exit codes: 0 done, 1 something changed by more than --fail-over, 2 usage, or nothing to compare.
    """  # noqa: D301 - \b keeps the examples' lines apart
    limit = None if fail_over is None else _read_percent(fail_over)
    sides = read_sides(before, after)
    for problem in [problem for side in sides for problem in side.problems][:_MAX_PROBLEMS]:
        notice(f"skipped {problem.path}: {problem.reason}")
    comparison = compare_sides(*sides, is_card_ignored=any_card)
    _show(comparison, limit=limit, figure=figure, is_markdown=markdown, as_json=json)
    return 1 if limit is not None and comparison.over(limit, figure) else 0


def _read_percent(text: str) -> Fraction:
    """`2%` as a share.

    Raises:
        ConfigError: if it is no percentage; a bare number could mean either.
    """
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"--fail-over {text!r} is no percentage", hint="write for example 2% or 0.5%")
    return Fraction(match[1]) / 100


def _show(
    comparison: Comparison, *, limit: Fraction | None, figure: FigureName, is_markdown: bool, as_json: bool
) -> None:
    if as_json:
        print_json_value(comparison_tree(comparison, limit=limit, figure=figure))
    elif is_markdown:
        print_json(changes_markdown(comparison, limit=limit, figure=figure))
    else:
        with data_output() as console:
            show_changes(console, comparison, limit=limit, figure=figure)
