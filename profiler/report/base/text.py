"""How values look in plain text on a terminal."""

from __future__ import annotations

import math

from rich.console import Group
from rich.table import Table
from rich.text import Text

from profiler.units import format_bytes

UNKNOWN = "-"


def shown(text: str) -> str:
    """Makes text from elsewhere safe to show: control characters become visible escapes, line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


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


def plain_table(columns: dict[str, str]) -> Table:
    """A table with no frame; `columns` maps each heading to `left` or `right`."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading, side in columns.items():
        table.add_column(literal(heading), justify="right" if side == "right" else "left", header_style="dim")
    return table


def titled(title: str, table: Table) -> Group:
    """A table under its title; rich's own titles break at the table's width."""
    return Group(literal(title, "bold"), table)
