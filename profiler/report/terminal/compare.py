"""What a comparison of two studies looks like: on a terminal, in Markdown, and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from profiler.records.compare import FIGURES
from profiler.records.store import short_model
from profiler.report.base.markdown import escape
from profiler.report.base.markdown import table as markdown_table
from profiler.report.base.text import UNKNOWN, literal, plain_table
from profiler.report.base.verdict import outcome_label
from profiler.report.terminal.record import describe_job
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from fractions import Fraction

    from rich.console import Console

    from profiler.records.compare import Comparison, FigureName, Pair
    from profiler.records.schema import Record

MAX_SHOWN = 20
_HEADINGS = {"job": "left", "allocated": "right", "before": "right", "after": "right", "reserved": "right"}


def show_comparison(
    console: Console, comparison: Comparison, *, limit: Fraction | None, figure: FigureName
) -> None:
    """Prints how the environments differ, the jobs that changed, most changed first, and a verdict."""
    for line in _lines(comparison):
        console.print(literal(line), soft_wrap=True)
    changed = comparison.changed
    if changed:
        console.print()
        console.print(_changes(changed[:MAX_SHOWN]))
    if len(changed) > MAX_SHOWN:
        console.print(Text(f"and {len(changed) - MAX_SHOWN} more: --json lists all"))
    for heading, records in _one_sided(comparison):
        console.print()
        console.print(Group(literal(heading, "bold"), *map(literal, _described(records))))
    if limit is not None:
        console.print()
        num_over = len(comparison.over(limit, figure))
        style = "bold red" if num_over else "bold green"
        console.print(literal(verdict(comparison, limit=limit, figure=figure), style), soft_wrap=True)


def comparison_markdown(comparison: Comparison, *, limit: Fraction | None, figure: FigureName) -> str:
    """The same as Markdown, with every job that changed."""
    lines = [f"- {escape(line)}" for line in _lines(comparison)]
    parts = ["# What changed\n", "\n".join(lines) + "\n"]
    if comparison.changed:
        rows = ([escape(text) for text in _cells(pair)] for pair in comparison.changed)
        parts += ["## Changed jobs\n", markdown_table(list(_HEADINGS), rows, num_left=1)]
    for heading, records in _one_sided(comparison):
        described = "\n".join(f"- {escape(line)}" for line in _described(records))
        parts += [f"## {escape(heading)}\n", described + "\n"]
    if limit is not None:
        parts.append(f"**{escape(verdict(comparison, limit=limit, figure=figure))}**\n")
    return "\n".join(parts)


def comparison_tree(
    comparison: Comparison, *, limit: Fraction | None, figure: FigureName
) -> dict[str, object]:
    """The same as plain data: sizes in bytes, changes as shares."""
    over = {id(pair) for pair in comparison.over(limit, figure)} if limit is not None else set()
    return {
        "before": comparison.before.name,
        "after": comparison.after.name,
        "environment": {name: list(values) for name, values in comparison.environment().items()},
        "num_in_both": len(comparison.pairs),
        "num_same": len(comparison.pairs) - len(comparison.changed),
        "changed": [_pair_tree(pair) | {"is_over": id(pair) in over} for pair in comparison.changed],
        "missing": [record.key for record in comparison.missing],
        "new": [record.key for record in comparison.new],
        "limit": None if limit is None else float(limit),
        "figure": figure,
        "num_over": len(over),
    }


def verdict(comparison: Comparison, *, limit: Fraction, figure: FigureName) -> str:
    """Whether anything changed by more than the limit."""
    num_over = len(comparison.over(limit, figure))
    what = f"peak {figure} by more than {float(limit * 100):.4g} %"
    if not num_over:
        return f"no job changed its outcome, or its {what}"
    return f"{num_over} of {len(comparison.pairs)} jobs changed their outcome, or their {what}"


def show_change(share: float | None) -> str:
    """`+2.31 %`; `0 %` of two equal figures alone."""
    if share is None:
        return UNKNOWN
    if not share:
        return "0 %"
    return f"{share * 100:+.2f} %" if abs(share) >= 0.0001 else f"{share * 100:+.1g} %"


def _lines(comparison: Comparison) -> Iterator[str]:
    pairs, changed = comparison.pairs, comparison.changed
    yield f"{comparison.before.name} -> {comparison.after.name}"
    for name, (before, after) in comparison.environment().items():
        yield f"{name}: {before} -> {after}"
    others = sum(pair.has_other_outcome for pair in changed)
    yield (
        f"{len(pairs)} jobs in both: {len(pairs) - len(changed)} the same, {others} with another outcome, "
        f"{len(changed) - others} with other figures; {len(comparison.missing)} missing, "
        f"{len(comparison.new)} new"
    )


def _changes(pairs: Iterable[Pair]) -> Group:
    table = plain_table(_HEADINGS)
    for pair in pairs:
        table.add_row(*map(literal, _cells(pair)))
    return Group(literal("Changed jobs", "bold"), table)


def _cells(pair: Pair) -> list[str]:
    before, after = (outcome_label(record.outcome) for record in (pair.before, pair.after))
    if pair.has_other_outcome:
        return [_describe(pair.after), "outcome", before, after, UNKNOWN]
    sizes = pair.sizes("allocated")
    assert sizes is not None, "a pair that changed, with the same outcome, has figures"
    allocated, reserved = (show_change(pair.change(figure)) for figure in FIGURES)
    return [_describe(pair.after), allocated, *map(format_bytes, sizes), reserved]


def _one_sided(comparison: Comparison) -> Iterator[tuple[str, tuple[Record, ...]]]:
    if comparison.missing:
        yield f"Missing in {comparison.after.name}: {len(comparison.missing)}", comparison.missing
    if comparison.new:
        yield f"New in {comparison.after.name}: {len(comparison.new)}", comparison.new


def _described(records: tuple[Record, ...]) -> list[str]:
    lines = [_describe(record) for record in records[:MAX_SHOWN]]
    left = len(records) - len(lines)
    return [*lines, *([f"and {left} more"] if left else [])]


def _describe(record: Record) -> str:
    return describe_job(record.spec.model_copy(update={"model": short_model(record.spec.model)}))


def _pair_tree(pair: Pair) -> dict[str, object]:
    sizes = {figure: pair.sizes(figure) for figure in FIGURES}
    return {
        "key": pair.after.key,
        "job": _describe(pair.after),
        "outcome": [str(pair.before.outcome.status), str(pair.after.outcome.status)],
        **{f"{figure}_bytes": list(found) if found else None for figure, found in sizes.items()},
        **{f"{figure}_change": pair.change(figure) for figure in FIGURES},
    }
