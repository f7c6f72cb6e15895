"""Which figures a study has, and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.describe import provenance
from profiler.report.base.fits import fit_table
from profiler.report.base.study_view import Drawn, find_example
from profiler.report.figures.draw import save, style
from profiler.report.figures.errors import draw_errors
from profiler.report.figures.example import draw_components, draw_phases
from profiler.report.figures.fits import draw_fits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.figure import Figure

    from profiler.report.base.study_view import StudyView


def write_figures(view: StudyView, directory: Path) -> tuple[Drawn, ...]:
    """Draws those figures that the study has something to show in.

    Raises:
        EnvironmentUnfitError: if a file cannot be written.
    """
    with style(view.name):
        return tuple(
            Drawn(name=name, caption=caption, origin=origin, paths=save(figure, directory, name=name))
            for name, caption, origin, figure in _figures(view)
        )


def _figures(view: StudyView) -> Iterator[tuple[str, str, str, Figure]]:
    table, example = fit_table(view), find_example(view)
    if table is not None:
        yield "fits", f"Does it fit? {table.title}", table.origin, draw_fits(table)
    if example is not None:
        length, batch = example.column
        job = f"{example.model}, batch {batch} x {length} tokens"
        origin = provenance(example.source.device)
        yield "components", f"What is in memory: {job}, by method", origin, draw_components(example)
        yield "phases", f"Phase by phase: {job}", origin, draw_phases(example)
    if view.errors:
        caption = "Formulas beside the records, as published and corrected"
        yield "errors", caption, view.provenances, draw_errors(view)
