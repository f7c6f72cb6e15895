"""How text and tables are written in Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from profiler.report.base.describe import describe_card, describe_versions, short_job
from profiler.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from profiler.records.schema import Record
    from profiler.report.base.arrange import CardRecords

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&]")


def escape(text: str) -> str:
    """Text from elsewhere in one line of Markdown, every character of it shown as it is."""
    one_line = " ".join(shown(text).split())
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", one_line)


def code(text: str) -> str:
    """Text in one line as code; a backtick in it would end the code, and becomes an apostrophe."""
    return "`" + " ".join(shown(text).split()).replace("`", "'") + "`"


def cards_list(cards: Iterable[CardRecords]) -> str:
    """A line a card: what it is called, and the versions its figures hold for."""
    lines = (f"- {escape(describe_card(card))}: {escape(describe_versions(card))}" for card in cards)
    return "\n".join(lines) + "\n"


def notes_list(records: Iterable[Record]) -> str:
    """A line a note of a record, the job in front; empty where there is none."""
    lines = (
        f"- {escape(f'{short_job(record.spec)}: {note}')}" for record in records for note in record.notes
    )
    return "".join(f"{line}\n" for line in lines)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, num_left: int) -> str:
    """A table of cells that are Markdown already; the first `num_left` columns are set left, others right."""
    sides = [":--" if number < num_left else "--:" for number in range(len(headings))]
    lines = (f"| {' | '.join(cells)} |" for cells in (headings, sides, *rows))
    return "\n".join(lines) + "\n"
