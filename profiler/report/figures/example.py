"""The figures of one model in one batch: what is in memory by method, and a run phase by phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.jobs.settings import settings_of
from profiler.report.base.describe import describe_settings, provenance
from profiler.report.base.parts import COLOURS, parts_of
from profiler.report.figures.draw import FAINT, PALETTE, add_note, mark_card, new_figure
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from profiler.records.schema import Record
    from profiler.report.base.study_view import Example

_MAX_BARS = 10


def draw_components(example: Example) -> Figure:
    """Bars by method and setting, shared settings in the title, the card's size where it is near."""
    chosen = example.records[:_MAX_BARS]
    figure = new_figure(8.5, 1.9 + 0.42 * len(chosen))
    axes = figure.subplots()
    labels = _labels(example, len(chosen))
    for number, (_, _, record) in enumerate(chosen):
        left = 0.0
        for name, size in parts_of(record).items():
            axes.barh(number, size / GIB, left=left, color=PALETTE[COLOURS[name]], height=0.62, label=name)
            left += size / GIB
        labels[number] += f"\n{left:.2f} GiB"
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    length, batch = example.column
    axes.set_title(f"{example.model}, batch {batch} x {length} tokens: device memory at the peak", loc="left")
    axes.set_xlabel("GiB")
    _mark_card(axes, example)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [name for name in COLOURS if name in handles]
    figure.legend(
        [handles[name] for name in names], names, frameon=False, loc="outside right upper", fontsize=8
    )
    add_note(figure, f"{provenance(example.source.device)}. Components as counted at the end of a phase.")
    return figure


def _labels(example: Example, number: int) -> list[str]:
    """A method, and how its other settings differ from those of the first bar."""
    first, *others = [settings_of(record.spec) for _, _, record in example.records[:number]]
    labels = [example.records[0][1][1]]
    for (_, row, _), job in zip(example.records[1:number], others, strict=True):
        own = [key for key in job if not key.startswith("method.") and first.get(key) != job[key]]
        labels.append("\n".join([row[1], *(f"{_short(key)} {job[key]}" for key in own)]))
    return labels


def _short(key: str) -> str:
    return {"gradient_checkpointing.enabled": "checkpointing"}.get(key, key.replace("_", " "))


def _mark_card(axes: Axes, example: Example) -> None:
    capacity = example.source.device.total_bytes / GIB
    low, high = axes.get_xlim()
    if capacity < 2 * high:
        mark_card(axes, example.source.device, is_vertical=True)
        axes.set_xlim(low, max(high, capacity) * 1.06)


_MAX_PANELS = 3


def draw_phases(example: Example) -> Figure:
    """A panel a method, all jobs alike in the rest; as many as are readable."""
    first = example.records[0][0]
    chosen = [(row, record) for grid, row, record in example.records if grid is first][:_MAX_PANELS]
    figure = new_figure(9.5, 1.2 + 2.3 * len(chosen))
    panels = figure.subplots(len(chosen), 1, sharey=True, squeeze=False)
    for (axes,), ((_, method), record) in zip(panels, chosen, strict=True):
        _draw_run(axes, record)
        axes.set_title(method, loc="left")
        mark_card(axes, example.source.device, is_vertical=False)
    _set_height(panels[0][0], example, [record for _, record in chosen])
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, frameon=False, loc="outside upper right", fontsize=8)
    length, batch = example.column
    title = f"{example.model}, batch {batch} x {length} tokens\n{describe_settings(first.settings)}"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    note = "A phase's start, peak and end are recorded; the lines between them are drawn."
    add_note(figure, f"{provenance(example.source.device)}. {note}")
    return figure


def _draw_run(axes: Axes, record: Record) -> None:
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
