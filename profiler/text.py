"""How text from elsewhere (a model's name, a message of a library) is made safe to show and to store."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
RAISED = "raised in "
HINT = "hint: "
"""How the lines of a message begin that say where an error was raised, and what may get round it."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def shown(text: str) -> str:
    """Makes text from elsewhere safe to show: control characters become visible escapes, line ends stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def in_one_line(message: str | None) -> str:
    """What a job's message comes to where there is one line for it: its last words, and its hint."""
    lines = (message or "no reason is known").strip().splitlines()
    hints = [line.removeprefix(HINT) for line in lines if line.startswith(HINT)]
    words = [line for line in lines if not line.startswith((HINT, RAISED))]
    return " ".join([*words[-1:], *(f"({hint})" for hint in hints)])


def as_cell(text: str) -> str:
    """Text as a cell of a CSV file: nothing hidden in it, and for no spreadsheet a formula.

    A text that begins like a formula has an apostrophe in front, as OWASP advises; a number stays one.
    """
    is_formula = text.startswith(_BEGINS_A_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{shown(text)}" if is_formula else shown(text)


def csv_text(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV; a cell of None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([as_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()
