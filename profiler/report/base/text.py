"""How values look in plain text on a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from profiler.text import shown
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

UNKNOWN = "-"


def literal(text: str, style: str = "") -> Text:
    """Text that is shown as it is: no markup in it is interpreted, no escape sequence gets through."""
    return Text(shown(text), style=style)


def size(n: int | None) -> Text:
    """A number of bytes, or the mark for one that is not known."""
    return Text(UNKNOWN if n is None else format_bytes(n))


def percent(value: float | None, *, has_sign: bool = False) -> str:
    """A share as a reader wants it: two digits below 1 %, one below 100 %."""
    if value is None or math.isnan(value):  # there was nothing to count
        return UNKNOWN
    digits = 2 if abs(value) < 0.01 else 1
    return f"{value:+.{digits}%}" if has_sign else f"{value:.{digits}%}"


def public_path(path: Path) -> str:
    """A path for a reader of the repository; where on this machine is nobody's business."""
    return path.name if path.is_absolute() or ".." in path.parts else str(path)


def left(*headings: str) -> dict[str, str]:
    """Columns whose cells are set left, for `plain_table`."""
    return dict.fromkeys(headings, "left")


def right(*headings: str) -> dict[str, str]:
    """Columns whose cells are set right."""
    return dict.fromkeys(headings, "right")


def plain_table(columns: dict[str, str]) -> Table:
    """A table with no frame; `columns` maps each heading to `left` or `right`."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading, side in columns.items():
        table.add_column(literal(heading), justify="right" if side == "right" else "left", header_style="dim")
    return table


def titled(title: str, table: Table) -> Group:
    """A table under its title; rich's own titles break at the table's width."""
    return Group(literal(title, "bold"), table)


def titled_table(title: str, columns: dict[str, str], rows: Iterable[Sequence[object]]) -> Group:
    """A table with no frame under its title; text in it is shown as it is."""
    table = plain_table(columns)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else literal(str(cell)) for cell in row))
    return titled(title, table)


def show_blocks(console: Console, *blocks: Group | Iterable[Text]) -> None:
    """Prints blocks with an empty line between them: tables as wide as there is room for, lines in full."""
    shown_blocks = [block if isinstance(block, Group) else list(block) for block in blocks]
    for number, block in enumerate(block for block in shown_blocks if block):
        if number:
            console.print()
        if isinstance(block, Group):
            console.print(block)
        else:
            for line in block:
                console.print(line, soft_wrap=True)
