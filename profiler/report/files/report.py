"""Which files the report of a study is: all from its stored records, with nothing run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.files import check_directory, write_file
from profiler.records.frame import write_table
from profiler.report.base.markdown import code, escape, table
from profiler.report.base.study_view import describe_fitted_on, provenance, view_study
from profiler.report.figures.study import Drawn, write_figures
from profiler.report.markdown.tables import (
    VIRTUAL,
    count_outcomes,
    describe_card,
    describe_versions,
    study_tables,
)
from profiler.report.page.render import render_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from profiler.fit.score import Score
    from profiler.records.store import RecordStore
    from profiler.report.base.study_view import StudyView

PAGE_NAME = "report.html"
FIGURES_NAME = "figures"
_NONE = "-"
_FILES = f"""\
## Files

- `{PAGE_NAME}`: everything on one page, to look at in a browser; it needs no network.
- `tables.md`: what fits and what every job takes.
- `records.csv`, `records.parquet`: one row a job, bytes in every column that ends in `_bytes`.
- `{FIGURES_NAME}/`: the figures, as PNG and as SVG.
"""


def write_report(
    store: RecordStore, *, out: Path | None, factors_path: Path | None, gpu: str | None
) -> tuple[Path, ...]:
    """Writes the report; returns the files' paths, the page first.

    Args:
        store: the study.
        out: where it goes; None for the study's directory.
        factors_path: correction factors; None for the study's own or else the shipped ones.
        gpu: the card to answer "does it fit?" for; None for the study's own.

    Raises:
        ConfigError: if the study has no record, there is no such card, or a file is not what it must be.
        EnvironmentUnfitError: if a file cannot be written.
    """
    directory = store.directory if out is None else out
    check_directory(directory)
    view = view_study(store, factors_path=factors_path, gpu=gpu)
    page, text, tables = (directory / name for name in (PAGE_NAME, "report.md", "tables.md"))
    write_file(page, render_page(view))
    figures = write_figures(view, directory / FIGURES_NAME)
    write_file(text, report_markdown(view, figures))
    write_file(tables, study_tables(view.records, name=view.name, place=view.name))
    frames = (directory / "records.csv", directory / "records.parquet")
    for path in frames:
        write_table(view.records, path)
    return (page, text, tables, *frames, *(path for figure in figures for path in figure.paths))


def report_markdown(view: StudyView, figures: Sequence[Drawn]) -> str:
    """The report for a repository: what the study is, its figures, and the formulas beside its records."""
    cards = [
        f"- **{escape(provenance(source.device))}**: {escape(describe_card(source.card))}, "
        f"{escape(describe_versions(source.card))}"
        for source in view.cards
    ]
    parts = [
        f"# {escape(view.name)}: report\n",
        *(f"{escape(text)}\n" for text in _descriptions(view)),
        f"{count_outcomes(view.records)}.\n",
        "\n".join(cards) + "\n",
        *([f"{VIRTUAL}\n"] if any(source.device.kind == "virtual" for source in view.cards) else []),
        *(part for figure in figures for part in _figure_parts(figure)),
        *_formula_parts(view),
        _FILES,
    ]
    return "\n".join(parts)


def _descriptions(view: StudyView) -> list[str]:
    return list(dict.fromkeys(note.sweep.description for note in view.notes if note.sweep.description))


def _figure_parts(figure: Drawn) -> Iterator[str]:
    caption = escape(figure.caption)
    yield f"## {caption}\n"
    yield f"Figures: {escape(figure.origin)}.\n"
    yield f"![{caption}]({FIGURES_NAME}/{figure.paths[0].name})\n"


def _formula_parts(view: StudyView) -> Iterator[str]:
    if not view.errors:
        return
    kinds = ", ".join(dict.fromkeys(provenance(source.device) for source in view.cards))
    yield f"## Errors of formulas ({escape(kinds)})\n"
    yield (
        "Absolute errors of peak allocated memory over the finished jobs a formula speaks of. Factors "
        f"({escape(view.factors_name)}): {escape(describe_fitted_on(view))}.\n"
    )
    rows = (
        [
            code(error.formula.id),
            str(error.bare.num_jobs),
            *_errors(error.bare),
            *(_errors(error.corrected) if error.corrected else [_NONE] * 3),
        ]
        for error in view.errors
    )
    headings = [
        "formula",
        "jobs",
        "as published: median",
        "90th",
        "bias",
        "corrected: median",
        "90th",
        "bias",
    ]
    yield table(headings, rows, num_left=1)


def _errors(score: Score) -> list[str]:
    return [f"{score.median:.2%}", f"{score.p90:.2%}", f"{score.bias:+.2%}"]
