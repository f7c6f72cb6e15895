"""The figure of what is in memory: one stacked bar a method, of one model in one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.jobs.settings import settings_of
from profiler.report.base.describe import provenance
from profiler.report.base.parts import COLOURS, parts_of
from profiler.report.figures.draw import PALETTE, add_note, mark_capacity, new_figure
from profiler.units import GIB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
        mark_capacity(axes, capacity, is_vertical=True)
        axes.set_xlim(low, max(high, capacity) * 1.06)
        axes.annotate(
            f"the card: {capacity:.2f} GiB",
            (capacity, 0.5),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            rotation=90,
            va="center",
            fontsize=8,
            color=PALETTE["red"],
        )
