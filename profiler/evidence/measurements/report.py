"""What the comparison with published measurements looks like: Markdown to read, rows for CSV and JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.evidence.measurements.figures import metric_label
from profiler.jobs.settings import method_label, settings_of
from profiler.report.base.text import literal, plain_table
from profiler.report.markdown.write import code, escape, table
from profiler.text import csv_text
from profiler.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from fractions import Fraction

    from rich.table import Table

    from profiler.evidence.measurements.device_gap import Gap
    from profiler.evidence.measurements.differences import BarResult, ComparedRow, VirtualFigure
    from profiler.evidence.measurements.environments import LibrarySet
    from profiler.evidence.measurements.mapping import Mapped, RefusedRow
    from profiler.evidence.measurements.outside import Outside

FIGURE_NAME = "published-and-virtual"
_NONE = "-"
_TITLE = "Virtual cards against published measurements"
_PREAMBLE = """\
Every figure under *published* was measured by others, on real cards, and published with the source that its
row names. Every figure under *virtual* is **virtual**: PyTorch's own CUDA caching allocator ran over a card
that is not there. Nothing here was measured by peakvram on hardware. No figure was adjusted: a job uses what
the source says and what its named library versions do. `docs/validation.md` says how this page is made and
how to make it again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPage:
    """All that is shown.

    Attributes:
        comparisons: every mapped row.
        results: how they stand against the bars.
        mapped: titles, and the rows that were refused.
        library_sets: the sets the rows name, by name.
        current: the libraries installed here.
        gaps: what published device figures leave beyond the virtual reserved ones.
        outside: what the readings of other cards say of that gap; None where there is no gap to speak of.
    """

    comparisons: Sequence[ComparedRow]
    results: Sequence[BarResult]
    mapped: Mapped
    library_sets: Mapping[str, LibrarySet]
    current: LibrarySet
    gaps: Sequence[Gap] = ()
    outside: Outside | None = None


def validation_markdown(page: ValidationPage) -> str:
    """The whole page."""
    sources = dict.fromkeys(comparison.row.measurement.source for comparison in page.comparisons)
    parts = [f"# {_TITLE}\n", _PREAMBLE, "## Summary\n", _summary(page.results)]
    parts += [f"- {_unexplained(result)}" for result in page.results if result.unexplained]
    parts.append(f"![Published and virtual figures]({FIGURE_NAME}.png)\n")
    for source in sources:
        own = [item for item in page.comparisons if item.row.measurement.source == source]
        parts += _source_parts(source, own, page)
    if page.gaps and page.outside is not None:
        parts += _gap_parts(page.gaps, page.outside)
    parts += _refused_parts(page.mapped)
    return "\n".join(parts)


def comparison_rows(comparisons: Iterable[ComparedRow]) -> list[dict[str, str | int | float | None]]:
    """One flat row a published figure, for CSV and JSON; a figure that is missing is None."""
    return [_flat(comparison) for comparison in comparisons]


def comparisons_csv(comparisons: Iterable[ComparedRow]) -> str:
    """The rows as CSV; bytes in every column that ends in `_bytes`."""
    rows = comparison_rows(comparisons)
    return csv_text([*rows[0]] if rows else [], (row.values() for row in rows))


def bar_rows(results: Iterable[BarResult]) -> list[dict[str, str | int | float | bool | list[str] | None]]:
    """One flat row a bar, shares as percentages."""
    return [
        {
            "group": result.bar.name,
            "num_rows": len(result.shares),
            "num_without": result.num_without,
            "median_percent": _percent(result.median),
            "worst_percent": _percent(result.worst[0]) if result.worst else None,
            "worst_row": result.worst[1] if result.worst else None,
            "max_median_percent": _percent(result.bar.max_median),
            "max_worst_percent": _percent(result.bar.max_worst),
            "is_met": result.is_met,
            "median_here_percent": _percent(result.median_here),
            "worst_here_percent": _percent(result.here[-1]) if result.here else None,
            "unexplained": list(result.unexplained),
        }
        for result in results
    ]


def bars_table(results: Iterable[BarResult]) -> Table:
    """How the rows stand against the bars, for a terminal."""
    columns = {"virtual against published": "left", "rows": "right", "median": "right", "worst": "right"}
    shown = plain_table(columns | {"bar": "right", "met": "left"})
    for result in results:
        bars = (result.bar.max_median, result.bar.max_worst)
        shown.add_row(
            literal(result.bar.name),
            str(len(result.shares)),
            show_percent(result.median),
            show_percent(result.worst[0] if result.worst else None),
            ", ".join(show_percent(bar) for bar in bars if bar is not None),
            "yes" if result.is_met else "no",
        )
    return shown


def has_failures(comparisons: Iterable[ComparedRow]) -> bool:
    """Whether a job ended otherwise than well or out of memory."""
    readings = (reading for row in comparisons for reading in (row.own, row.current) if reading)
    return any(reading.outcome not in {"ok", "oom"} for reading in readings)


def show_percent(share: Fraction | None, *, signed: bool = False) -> str:
    """A share as a percentage with as many decimals as it needs: `0.0003 %`, `-4.2 %`."""
    if share is None:
        return _NONE
    percent = float(share * 100)
    size = abs(percent)
    decimals = 1 if size >= 10 else 2 if size >= 0.1 else 2 - math.floor(math.log10(size)) if size else 0
    return f"{percent:{'+' if signed else ''}.{decimals}f} %"


def _summary(results: Iterable[BarResult]) -> str:
    headings = ["rows", "number", "median", "worst", "bar: median", "bar: worst", "met"]
    headings += ["libraries of today: median", "worst"]
    return table(headings, (_result_cells(result) for result in results), num_left=1)


def _result_cells(result: BarResult) -> list[str]:
    number = str(len(result.shares))
    if result.num_without:
        number += f" (of {len(result.shares) + result.num_without})"
    return [
        escape(result.bar.name),
        number,
        show_percent(result.median),
        show_percent(result.worst[0] if result.worst else None),
        show_percent(result.bar.max_median),
        show_percent(result.bar.max_worst),
        "yes" if result.is_met else "**no**" if result.shares else _NONE,
        show_percent(result.median_here),
        show_percent(result.here[-1] if result.here else None),
    ]


def _unexplained(result: BarResult) -> str:
    rows = ", ".join(result.unexplained)
    return f"No reason is given for {escape(rows)} ({escape(result.bar.name)}), which differ by over 0.5 %.\n"


def _source_parts(source: str, comparisons: Sequence[ComparedRow], page: ValidationPage) -> Iterator[str]:
    first = comparisons[0].row.measurement
    yield f"## {escape(page.mapped.titles[source])}\n"
    yield f"Published at {code(first.repository)}, {code(first.path.partition(';')[0])}.\n"
    yield f"{escape(page.mapped.read[source])}\n"
    sets = dict.fromkeys(comparison.row.environment for comparison in comparisons)
    for name in sets:
        if name:
            yield f"- {code(name)}: the libraries of the run, {escape(page.library_sets[name].label)}."
    yield f"- here: {escape(page.current.label)}.\n"
    headings = ["row", "job", "figure", "published", "virtual, its libraries", "difference"]
    headings += ["virtual, here", "difference"]
    yield table(headings, (_cells(comparison) for comparison in comparisons), num_left=3)
    yield "In bytes. What differs in the set-up:\n"
    yield from _set_up(comparisons)
    yield from _reasons(comparisons)


def _cells(comparison: ComparedRow) -> list[str]:
    measurement = comparison.row.measurement
    return [
        measurement.id,
        escape(_job(comparison)),
        escape(metric_label(measurement.metric)),
        f"{measurement.value_bytes:,}",
        *_reading_cells(comparison.own),
        *_reading_cells(comparison.current),
    ]


def _reading_cells(reading: VirtualFigure | None) -> list[str]:
    if reading is None:
        return [_NONE, _NONE]
    if reading.value_bytes is None:
        return [escape(reading.outcome), _NONE]
    return [f"{reading.value_bytes:,}", show_percent(reading.share, signed=True)]


def _job(comparison: ComparedRow) -> str:
    job, model = comparison.row.job, comparison.row.measurement.model.rpartition("/")[2]
    extras = [str(job.precision)] if str(job.precision) != "bf16" else []
    extras += [] if job.gradient_checkpointing.enabled else ["no checkpointing"]
    extras += [str(job.attention)] if str(job.attention) != "sdpa" else []
    label = method_label(settings_of(job), besides="method.targets")
    return ", ".join([f"{model} {label}", f"{job.batch_size} x {job.seq_len}", *extras])


def _set_up(comparisons: Sequence[ComparedRow]) -> Iterator[str]:
    """Every note once, with the rows it holds for where it does not hold for all."""
    rows_by_note: dict[str, list[str]] = {}
    for comparison in comparisons:
        for note in comparison.row.differs:
            rows_by_note.setdefault(note, []).append(comparison.row.measurement.id)
    for note, rows in rows_by_note.items():
        which = "" if len(rows) == len(comparisons) else f" ({_ids(rows)})"
        yield f"- {escape(note)}{which}"
    yield ""


def _reasons(comparisons: Sequence[ComparedRow]) -> Iterator[str]:
    with_own: dict[str, list[str]] = {}
    here: dict[str, list[str]] = {}
    for comparison in comparisons:
        row = comparison.row
        if row.because and comparison.own:
            with_own.setdefault(row.because, []).append(row.measurement.id)
        if row.because_current and comparison.current:
            here.setdefault(row.because_current, []).append(row.measurement.id)
    if with_own or here:
        yield "Why figures differ:\n"
    for reason, rows in with_own.items():
        yield f"- its libraries: {escape(reason)} ({_ids(rows)})"
    for reason, rows in here.items():
        yield f"- here: {escape(reason)} ({_ids(rows)})"
    yield ""


def _gap_parts(gaps: Sequence[Gap], outside: Outside) -> Iterator[str]:
    yield "## What lies outside the allocator\n"
    yield (
        "What a published device figure leaves beyond the virtual reserved figure of the same job, with the "
        "run's libraries. It holds two unknowns: the CUDA context with its kernels, and how far the real "
        "run's reserved memory was from the virtual one's. Published readings put the first at "
        f"{format_bytes(outside.typical_bytes)} ({format_bytes(outside.low_bytes)} to "
        f"{format_bytes(outside.high_bytes)}) here: {escape(outside.reason)}.\n"
    )
    headings = ["row", "published device, MiB", "virtual reserved, MiB", "left, MiB"]
    yield table(headings, (_gap_cells(gap) for gap in gaps), num_left=1)


def _gap_cells(gap: Gap) -> list[str]:
    sizes = (gap.device_used_bytes, gap.reserved_bytes, gap.left_bytes)
    return [gap.row, *(f"{size / MIB:,.0f}" for size in sizes)]


def _refused_parts(mapped: Mapped) -> Iterator[str]:
    yield "## Rows that no job can stand for\n"
    by_reason: dict[str, list[RefusedRow]] = {}
    for row in mapped.refused:
        by_reason.setdefault(row.reason, []).append(row)
    rows = (
        [_ids([row.measurement.id for row in group]), str(len(group)), escape(reason)]
        for reason, group in by_reason.items()
    )
    yield table(["rows", "number", "why"], rows, num_left=3)


def _ids(rows: Sequence[str]) -> str:
    """`fms-007 to fms-012` for rows that follow one another, `fms-007, fms-010` otherwise."""
    runs: list[list[str]] = []
    for row in rows:
        if runs and _number(row) == _number(runs[-1][-1]) + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _number(row: str) -> int:
    return int(row.rpartition("-")[2])


def _flat(comparison: ComparedRow) -> dict[str, str | int | float | None]:
    row = comparison.row
    measurement = row.measurement
    flat: dict[str, str | int | float | None] = {
        "row": measurement.id,
        "grade": str(measurement.grade),
        "repository": measurement.repository,
        "path": measurement.path,
        "commit": measurement.commit,
        "metric": str(measurement.metric),
        "figure": str(row.figure),
        "published": measurement.value_text,
        "published_bytes": measurement.value_bytes,
    }
    for name, reading in (("own", comparison.own), ("current", comparison.current)):
        flat |= {
            f"{name}_libraries": reading.libraries if reading else None,
            f"{name}_outcome": reading.outcome if reading else None,
            f"{name}_virtual_bytes": reading.value_bytes if reading else None,
            f"{name}_difference_bytes": reading.difference_bytes if reading else None,
            f"{name}_difference_percent": _percent(reading.share) if reading else None,
        }
    return flat | {"differs": " ".join(row.differs), "because": comparison.because}


def _percent(share: Fraction | None) -> float | None:
    return None if share is None else round(float(share * 100), 6)
