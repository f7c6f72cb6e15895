"""How every figure is set up and saved: the same records give the same bytes."""

from __future__ import annotations

import io
import textwrap
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from profiler.files import write_file
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from profiler.records.schema import Device

PALETTE: Final = MappingProxyType(
    {
        **{"blue": "#0072B2", "sky": "#56B4E9", "orange": "#E69F00", "red": "#D55E00", "green": "#009E73"},
        **{"pink": "#CC79A7", "yellow": "#F0E442", "violet": "#6A51A3", "grey": "#C3C8CD", "dark": "#6B737B"},
    }
)
"""Okabe and Ito's colours, which people with any colour vision tell apart; a violet, two greys."""
FAINT: Final = "#5A6169"
_DPI = 150
_CHARACTERS_AN_INCH = 15  # of the small type of notes, with room to spare


@contextmanager
def style(name: str) -> Iterator[None]:
    """Fonts, and identifiers in SVG files that do not change from run to run."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and for figures alone

    settings: Any = {  # its type is one of four hundred names
        "svg.hashsalt": name,
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.parse_math": False,  # a dollar sign in a model's name is a dollar sign
    }
    with mpl.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and not for tables

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, directory: Path, *, name: str) -> tuple[Path, ...]:
    """Writes a figure as PNG and SVG; returns the files' paths.

    Raises:
        EnvironmentUnfitError: if a file cannot be written.
    """
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=_DPI, metadata=metadata)
        paths.append(directory / f"{name}.{suffix}")
        write_file(paths[-1], buffer.getvalue())
    return tuple(paths)


def mark_card(axes: Axes, device: Device, *, is_vertical: bool) -> None:
    """A dashed line at what the card has, with its figure."""
    gib, colour = device.total_bytes / GIB, PALETTE["red"]
    draw_line = axes.axvline if is_vertical else axes.axhline
    draw_line(gib, color=colour, linewidth=1.2, linestyle=(0, (5, 3)))
    places: dict[str, Any] = (
        {
            "xy": (gib, 0.5),
            "xycoords": ("data", "axes fraction"),
            "xytext": (3, 0),
            "rotation": 90,
            "va": "center",
        }
        if is_vertical
        else {"xy": (0.003, gib), "xycoords": ("axes fraction", "data"), "xytext": (0, 2), "va": "bottom"}
    )
    label = f"the card: {gib:.2f} GiB"
    axes.annotate(
        label,
        **places,
        textcoords="offset points",
        fontsize=8,
        color=colour,
        annotation_clip=None if is_vertical else True,
    )


def add_note(figure: Figure, text: str) -> None:
    """Some lines under the whole figure: what kind of figures these are."""
    lines = textwrap.fill(text, width=int(figure.get_figwidth() * _CHARACTERS_AN_INCH))
    figure.supxlabel(lines, fontsize=8, color=FAINT, x=0.01, ha="left")
