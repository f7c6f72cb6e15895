"""What stands in the README of a study: what it is, how it was made, and what is in its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.arrange import by_card
from profiler.report.base.markdown import escape
from profiler.report.markdown.tables import (
    VIRTUAL,
    count_outcomes,
    describe_card,
    describe_kinds,
    describe_versions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.records.schema import Record
    from profiler.records.study import SweepNote
    from profiler.report.base.arrange import Card

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
        *_descriptions(notes),
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


def keep_own_text(generated: str, before: str) -> str:
    """The new README with what somebody wrote below the mark of the old one."""
    return generated + before.partition(END_MARK)[2].lstrip("\n")


def _descriptions(notes: Sequence[SweepNote]) -> Iterator[str]:
    described = dict.fromkeys(note.sweep.description for note in notes if note.sweep.description)
    yield from (f"{escape(description)}\n" for description in described)


def _card_parts(cards: Sequence[Card]) -> Iterator[str]:
    yield (
        "\n".join(f"- {escape(describe_card(card))}: {escape(describe_versions(card))}" for card in cards)
        + "\n"
    )
    if any(card.records[0].device and card.records[0].device.kind == "virtual" for card in cards):
        yield f"{VIRTUAL}\n"
