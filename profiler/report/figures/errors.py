"""The figure of how far formulas are off, as their authors give them and once corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.study_view import describe_fitted_on
from profiler.report.figures.draw import PALETTE, add_note, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from profiler.report.base.study_view import StudyView

_LEAST_PERCENT = 0.01


def draw_errors(view: StudyView) -> Figure:
    """Median absolute errors on a logarithmic axis, the best corrected formula first."""
    figure = new_figure(8.5, 1.8 + 0.26 * len(view.errors))
    axes = figure.subplots()
    for number, error in enumerate(view.errors):
        bare = _percent(error.bare.median)
        if error.corrected is not None:
            corrected = _percent(error.corrected.median)
            axes.plot([bare, corrected], [number, number], color="0.8", linewidth=1.2, zorder=1)
            axes.scatter(corrected, number, color=PALETTE["blue"], s=42, zorder=2, label="corrected")
        axes.scatter(
            bare,
            number,
            facecolor="white",
            edgecolor=PALETTE["orange"],
            linewidths=1.6,
            s=36,
            zorder=3,
            label="as published",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_xlim(left=_LEAST_PERCENT)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    labels = [f"{error.formula.id} ({error.bare.num_jobs})" for error in view.errors]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("median error of peak allocated memory, absolute, per cent of the record (log scale)")
    axes.set_title("Formulas beside the records (in brackets: jobs)", loc="left")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), ncols=2, frameon=False, loc="outside upper right", fontsize=8
    )
    add_note(figure, f"{view.provenances}. Factors {describe_fitted_on(view)}.")
    return figure


def _percent(share: float) -> float:
    return max(share * 100, _LEAST_PERCENT)
