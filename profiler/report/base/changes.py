"""What is said of a study that was made again, whatever shows it: the jobs that changed, and a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.records.compare import FIGURES
from profiler.report.base.describe import short_job
from profiler.report.base.text import UNKNOWN, left
from profiler.report.base.verdict import outcome_label
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from profiler.records.compare import Comparison, FigureName, Pair
    from profiler.records.schema import Record

MAX_SHOWN = 20
CHANGE_HEADINGS = left("job") | dict.fromkeys(("allocated", "before", "after", "reserved"), "right")


def comparison_tree(
    comparison: Comparison, *, limit: Fraction | None, figure: FigureName
) -> dict[str, object]:
    """A comparison as plain data: sizes in bytes, changes as shares."""
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


def change_lines(comparison: Comparison) -> Iterator[str]:
    """How the environments differ, and how many jobs changed."""
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


def change_cells(pair: Pair) -> list[str]:
    """A job that changed, in the columns of `CHANGE_HEADINGS`."""
    before, after = (outcome_label(record.outcome) for record in (pair.before, pair.after))
    if pair.has_other_outcome:
        return [short_job(pair.after.spec), "outcome", before, after, UNKNOWN]
    sizes = pair.sizes("allocated")
    assert sizes is not None, "a pair that changed, with the same outcome, has figures"
    allocated, reserved = (show_change(pair.change(figure)) for figure in FIGURES)
    return [short_job(pair.after.spec), allocated, *map(format_bytes, sizes), reserved]


def one_sided(comparison: Comparison) -> Iterator[tuple[str, tuple[Record, ...]]]:
    """The jobs of one study alone, under a heading."""
    if comparison.missing:
        yield f"Missing in {comparison.after.name}: {len(comparison.missing)}", comparison.missing
    if comparison.new:
        yield f"New in {comparison.after.name}: {len(comparison.new)}", comparison.new


def described(records: tuple[Record, ...]) -> list[str]:
    """One line a job, not without end."""
    lines = [short_job(record.spec) for record in records[:MAX_SHOWN]]
    left = len(records) - len(lines)
    return [*lines, *([f"and {left} more"] if left else [])]


def _pair_tree(pair: Pair) -> dict[str, object]:
    sizes = {figure: pair.sizes(figure) for figure in FIGURES}
    return {
        "key": pair.after.key,
        "job": short_job(pair.after.spec),
        "outcome": [str(pair.before.outcome.status), str(pair.after.outcome.status)],
        **{f"{figure}_bytes": list(both) if both else None for figure, both in sizes.items()},
        **{f"{figure}_change": pair.change(figure) for figure in FIGURES},
    }
