"""What stands in the README of a study: what it is, how it was made, and what is in its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.arrange import by_card
from profiler.report.base.describe import (
    VIRTUAL_FIGURES,
    count_outcomes,
    describe_card,
    describe_kinds,
    describe_versions,
    descriptions_of,
)
from profiler.report.markdown.write import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.records.schema import Record
    from profiler.records.study import SweepNote
    from profiler.report.base.arrange import CardRecords

END_MARK = "<!-- What is above this line is written by `peakvram export`; what is below is kept. -->"

_FILES = """\
## Files

- `tables.md`: what fits and what every job takes, for people.
- `records.csv`, `records.parquet`: one row a job, bytes in every column that ends in `_bytes`.
- `records.jsonl.gz` (or `records/`): the records, one JSON object each, from which the others are made.
- `study.json`: the sweeps and their commands.
"""


def study_readme(records: Sequence[Record], notes: Sequence[SweepNote], *, name: str) -> str:
    """The README of a study, from its records and the sweeps noted beside them."""
    cards = by_card(records)
    parts = [
        f"# {escape(name)}{describe_kinds(cards)}\n",
        *(f"{escape(text)}\n" for text in descriptions_of(notes)),
        f"{count_outcomes(records)}.\n",
        *_card_parts(cards),
    ]
    if notes:
        commands = "\n".join(f"    {note.command}" for note in notes)
        parts.append(f"## How it was made\n\n{commands}\n")
        parts.append(
            "The same command goes on where an earlier one stopped; jobs with a record are not run again.\n"
        )
    return "\n".join([*parts, _FILES, f"{END_MARK}\n"])


def _card_parts(cards: Sequence[CardRecords]) -> Iterator[str]:
    yield (
        "\n".join(f"- {escape(describe_card(card))}: {escape(describe_versions(card))}" for card in cards)
        + "\n"
    )
    if any(card.device.kind == "virtual" for card in cards):
        yield f"{VIRTUAL_FIGURES}\n"
