"""What the README and the report of a study look like in Markdown."""

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
    provenance,
)
from profiler.report.base.study_view import describe_fitted_on, find_example
from profiler.report.base.text import UNKNOWN
from profiler.report.markdown.write import cards_list, code, escape, notes_list, table
from profiler.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.fit.score import Score
    from profiler.records.schema import Record
    from profiler.records.study import SweepNote
    from profiler.report.base.arrange import CardRecords
    from profiler.report.base.study_view import Drawn, StudyView

PAGE_NAME = "report.html"
FIGURES_NAME = "figures"
_REPORT_FILES = f"""\
## Files

- `{PAGE_NAME}`: everything on one page, to look at in a browser; it needs no network.
- `tables.md`: what fits and what every job takes.
- `records.csv`, `records.parquet`: one row a job, bytes in every column that ends in `_bytes`.
- `{FIGURES_NAME}/`: the figures, as PNG and as SVG.
"""


def report_markdown(view: StudyView, figures: Sequence[Drawn]) -> str:
    """The report for a repository: what the study is, its figures, and the formulas beside its records."""
    cards = [
        f"- **{escape(provenance(source.device))}**: {escape(describe_card(source.card))}, "
        f"{escape(describe_versions(source.card))}"
        for source in view.cards
    ]
    parts = [
        f"# {escape(view.name)}: report\n",
        *(f"{escape(text)}\n" for text in descriptions_of(view.notes)),
        f"{count_outcomes(view.records)}.\n",
        "\n".join(cards) + "\n",
        *([f"{VIRTUAL_FIGURES}\n"] if view.has_virtual else []),
        *(part for figure in figures for part in _figure_parts(figure)),
        *_notes_parts(view),
        *_formula_parts(view),
        _REPORT_FILES,
    ]
    return "\n".join(parts)


def _figure_parts(figure: Drawn) -> Iterator[str]:
    caption = escape(figure.caption)
    yield f"## {caption}\n"
    yield f"Figures: {escape(figure.origin)}.\n"
    yield f"![{caption}]({FIGURES_NAME}/{figure.paths[0].name})\n"


def _notes_parts(view: StudyView) -> Iterator[str]:
    """What there is to say besides of the jobs that the figures show closely."""
    example = find_example(view)
    notes = notes_list([record for _, _, record in example.records]) if example else ""
    if notes:
        yield "## Notes on these jobs\n"
        yield notes


def _formula_parts(view: StudyView) -> Iterator[str]:
    if not view.errors:
        return
    yield f"## Errors of formulas ({escape(view.provenances)})\n"
    yield (
        "Absolute errors of peak allocated memory over the finished jobs a formula speaks of. Factors "
        f"({escape(view.factors_name)}): {escape(describe_fitted_on(view))}.\n"
    )
    rows = (
        [
            code(error.formula.id),
            str(error.bare.num_jobs),
            *_errors(error.bare),
            *(_errors(error.corrected) if error.corrected else [UNKNOWN] * 3),
        ]
        for error in view.errors
    )
    headings = ["formula", "jobs", "as published: median", "90th", "bias"]
    headings += ["corrected: median", "90th", "bias"]
    yield table(headings, rows, num_left=1)


def _errors(score: Score) -> list[str]:
    return [f"{score.median:.2%}", f"{score.p90:.2%}", f"{score.bias:+.2%}"]


END_MARK = "<!-- What is above this line is written by `peakvram export`; what is below is kept. -->"

_README_FILES = """\
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
        commands = "\n".join(f"    {shown(note.command)}" for note in notes)
        parts.append(f"## How it was made\n\n{commands}\n")
        parts.append(
            "The same command goes on where an earlier one stopped; jobs with a record are not run again.\n"
        )
    return "\n".join([*parts, _README_FILES, f"{END_MARK}\n"])


def _card_parts(cards: Sequence[CardRecords]) -> Iterator[str]:
    yield cards_list(cards)
    if any(card.device.kind == "virtual" for card in cards):
        yield f"{VIRTUAL_FIGURES}\n"
