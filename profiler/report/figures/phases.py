"""The figure of a run: allocated memory at each phase's start, peak and end, and reserved memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.describe import describe_settings, provenance
from profiler.report.figures.draw import FAINT, PALETTE, add_note, mark_capacity, new_figure
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from profiler.records.schema import Record
    from profiler.report.base.study_view import Example

_MAX_PANELS = 3


def draw_phases(example: Example) -> Figure:
    """A panel a method, all jobs alike in the rest; as many as are readable."""
    first = example.records[0][0]
    chosen = [(row, record) for grid, row, record in example.records if grid is first][:_MAX_PANELS]
    figure = new_figure(9.5, 1.2 + 2.3 * len(chosen))
    panels = figure.subplots(len(chosen), 1, sharey=True, squeeze=False)
    for (axes,), ((_, method), record) in zip(panels, chosen, strict=True):
        _draw(axes, record)
        axes.set_title(method, loc="left")
        _mark_card(axes, example)
    _set_height(panels[0][0], example, [record for _, record in chosen])
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, frameon=False, loc="outside upper right", fontsize=8)
    length, batch = example.column
    title = f"{example.model}, batch {batch} x {length} tokens\n{describe_settings(first.settings)}"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    note = "A phase's start, peak and end are recorded; the lines between them are drawn."
    add_note(figure, f"{provenance(example.source.device)}. {note}")
    return figure


def _draw(axes: Axes, record: Record) -> None:
    phases = record.phases
    places = [place + offset for place in range(len(phases)) for offset in (0.0, 0.5, 1.0)]
    allocated = [
        size / GIB
        for phase in phases
        for size in (phase.allocated_start_bytes, phase.allocated_peak_bytes, phase.allocated_end_bytes)
    ]
    reserved = [phase.reserved_peak_bytes / GIB for phase in phases]
    axes.fill_between(places, allocated, color=PALETTE["blue"], alpha=0.25, linewidth=0)
    axes.plot(places, allocated, color=PALETTE["blue"], linewidth=1.5, label="allocated")
    edges = list(range(len(phases) + 1))
    axes.stairs(
        reserved,
        edges,
        color=PALETTE["orange"],
        linewidth=1.5,
        label="reserved, peak of the phase",
        baseline=None,
    )
    names = [phase.name if phase.step is None else f"{phase.name} {phase.step}" for phase in phases]
    axes.set_xticks([place + 0.5 for place in range(len(phases))], names, rotation=40, ha="right", fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="GiB", xlim=(0, len(phases)))
    for place, phase in enumerate(phases):
        if phase.step is not None and (place == 0 or phases[place - 1].step != phase.step):
            axes.axvline(place, color=FAINT, linewidth=0.6, linestyle=":")


def _set_height(axes: Axes, example: Example, records: Sequence[Record]) -> None:
    """As high as the largest figure, or as the card where that is near."""
    largest = max(phase.reserved_peak_bytes for record in records for phase in record.phases)
    capacity = example.source.device.total_bytes
    top = max(largest, capacity) if capacity < 2 * largest else largest
    axes.set_ylim(0, top / GIB * 1.14)  # room for a line of text above the card's size


def _mark_card(axes: Axes, example: Example) -> None:
    capacity = example.source.device.total_bytes / GIB
    mark_capacity(axes, capacity, is_vertical=False)
    axes.annotate(
        f"the card: {capacity:.2f} GiB",
        (0.003, capacity),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        va="bottom",
        fontsize=8,
        color=PALETTE["red"],
        annotation_clip=True,
    )
