"""The figure of what fits a card: models and methods against lengths and batches, the peak in each cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from profiler.estimate.estimate import Fits
from profiler.report.base.describe import describe_settings
from profiler.report.figures.draw import FAINT, add_note, new_figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from profiler.report.base.arrange import Column, Grid
    from profiler.report.base.fits import Cell, FitTable

Name = TypeVar("Name")

_MAX_ROWS: Final = 100
_MAX_COLUMNS: Final = 60
_LOOKS: Final = {
    Fits.YES: ("#D3E9F7", "\u2713"),
    Fits.LIKELY: ("#EAF4FA", "\u2713?"),
    Fits.UNLIKELY: ("#FCEBDC", "\u2717?"),
    Fits.NO: ("#F7D3B5", "\u2717"),
}
"""Colour and sign of each answer; blue and orange differ for people with any colour vision."""
_SIGNS = (
    "\u2713 fits, \u2713? likely, \u2717? unlikely, \u2717 does not; "
    "peak device memory in GiB; OOM*: inferred, not run"
)


def draw_fits(table: FitTable) -> Figure:
    """One cell a job: its colour, its sign and its figure say the same."""
    grid = _readable(table.grid)
    figure = new_figure(2.4 + 0.56 * len(grid.columns), 1.5 + 0.235 * len(grid.rows))
    axes = figure.subplots()
    for y, row in enumerate(grid.rows):
        for x, column in enumerate(grid.columns):
            _draw(axes, x, y, table.cells.get((row, column)))
    axes.set(xlim=(-0.5, len(grid.columns) - 0.5), ylim=(len(grid.rows) - 0.5, -0.5))
    axes.set_yticks(range(len(grid.rows)), [" ".join(row) for row in grid.rows], fontsize=8)
    axes.set_xticks(range(len(grid.columns)), [str(batch) for _, batch in grid.columns], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _head_lengths(axes, grid.columns)
    for y in range(1, len(grid.rows)):
        if grid.rows[y][0] != grid.rows[y - 1][0]:
            axes.axhline(y - 0.5, color="0.55", linewidth=0.6)
    title = f"Does it fit? {table.title}\n{describe_settings(grid.settings)}"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    add_note(figure, ". ".join([table.origin, *_left_out(table.grid, grid), _SIGNS]))
    return figure


def _readable(grid: Grid) -> Grid:
    """No more rows and columns than a figure can show: those with most records."""
    rows = _fullest(grid.rows, Counter(row for row, _ in grid.cells), limit=_MAX_ROWS)
    columns = _fullest(grid.columns, Counter(column for _, column in grid.cells), limit=_MAX_COLUMNS)
    return replace(grid, rows=rows, columns=columns)


def _fullest(names: tuple[Name, ...], counts: Counter[Name], *, limit: int) -> tuple[Name, ...]:
    kept = set(sorted(names, key=lambda name: -counts[name])[:limit])
    return tuple(name for name in names if name in kept)


def _left_out(whole: Grid, shown: Grid) -> Iterator[str]:
    if len(shown.rows) < len(whole.rows):
        yield f"{len(shown.rows)} of {len(whole.rows)} rows, those with most records"
    if len(shown.columns) < len(whole.columns):
        yield f"{len(shown.columns)} of {len(whole.columns)} columns, those with most records"


def _draw(axes: Axes, x: int, y: int, cell: Cell | None) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - slow to load, and for figures alone

    colour, sign = _LOOKS[cell.fits] if cell and cell.fits else ("white", "")
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.8))
    text = f"{sign} {cell.text}".strip() if cell else "\u2013"
    axes.text(x, y, text, ha="center", va="center", fontsize=6.5)


def _head_lengths(axes: Axes, columns: Sequence[Column]) -> None:
    """The lengths above the batches, each over its own columns."""
    for length in dict.fromkeys(length for length, _ in columns):
        own = [place for place, column in enumerate(columns) if column[0] == length]
        axes.annotate(
            f"{length} tokens" if len(own) > 1 else f"{length}",
            ((own[0] + own[-1]) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 18),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
        if own[0]:
            axes.axvline(own[0] - 0.5, color="0.55", linewidth=0.6)
    axes.annotate(
        "batch",
        (0, 1.0),
        xycoords="axes fraction",
        xytext=(-6, 6),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=FAINT,
    )
