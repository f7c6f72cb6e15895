"""The figure of the validation: published against virtual, every row a point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.evidence.measurements.figures import metric_label
from profiler.report.figures.draw import new_figure, save
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from profiler.evidence.measurements.differences import ComparedRow

# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
_MARKERS = {"A": "o", "B": "s"}


def write_scatter(comparisons: Sequence[ComparedRow], directory: Path, *, name: str) -> tuple[Path, ...]:
    """Draws the figure as PNG and SVG; returns the files' paths. The same rows give the same bytes.

    Raises:
        EnvironmentUnfitError: if a file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and for this alone

    with mpl.rc_context({"svg.hashsalt": name, "font.size": 9}):
        figure = new_figure(9.5, 4.6)
        whole, near = figure.subplots(1, 2)
        _draw_whole(whole, comparisons)
        _draw_differences(near, comparisons)
        return save(figure, directory, name=name)


def _draw_whole(axes: Axes, comparisons: Sequence[ComparedRow]) -> None:
    sizes = [comparison.row.measurement.value_bytes / GIB for comparison in comparisons]
    top = max(sizes, default=1.0) * 1.08
    axes.plot([0, top], [0, top], color="0.6", linewidth=0.8, zorder=1)
    for label, colour, marker, points in _groups(comparisons):
        axes.scatter(
            [published / GIB for published, _ in points],
            [virtual / GIB for _, virtual in points],
            label=label,
            color=colour,
            marker=marker,
            s=26,
            alpha=0.85,
            linewidths=0,
            zorder=2,
        )
    axes.set(xlabel="published, real card, GiB", ylabel="virtual, GiB", xlim=(0, top), ylim=(0, top))
    axes.set_title("Real cards as published, and virtual", loc="left")
    axes.legend(frameon=False, loc="upper left")


def _draw_differences(axes: Axes, comparisons: Sequence[ComparedRow]) -> None:
    axes.set_xscale("log")
    for number, (_, colour, marker, points) in enumerate(_groups(comparisons)):
        shares = [max(abs(virtual / published - 1) * 100, 1e-7) for published, virtual in points]
        heights = [number + (place + 0.5) / len(points) * 0.7 - 0.35 for place in range(len(points))]
        axes.scatter(sorted(shares), heights, color=colour, marker=marker, s=26, alpha=0.85, linewidths=0)
    labels = [label for label, *_ in _groups(comparisons)]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set(xlabel="difference, per cent of the published figure (log scale)")
    axes.set_title("How far apart", loc="left")


def _groups(
    comparisons: Sequence[ComparedRow],
) -> list[tuple[str, str, str, list[tuple[int, int]]]]:
    """Label, colour, marker and points of every kind of figure and source."""
    points: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for comparison in comparisons:
        best, measurement = comparison.best, comparison.row.measurement
        if best is not None and best.value_bytes is not None:
            key = (measurement.source, metric_label(measurement.metric), str(measurement.grade))
            points.setdefault(key, []).append((measurement.value_bytes, best.value_bytes))
    return [
        (f"{source}: {kind}", _COLOURS[number % len(_COLOURS)], _MARKERS.get(grade, "o"), found)
        for number, ((source, kind, grade), found) in enumerate(points.items())
    ]
