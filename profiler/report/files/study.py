"""Which files a study and its report are: all of them are made from its records, and can be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.files import check_directory, clear_leftovers, text_below, write_file
from profiler.records.frame import to_frame, write_frame
from profiler.records.slim import read_records, whole_records
from profiler.records.study import read_notes
from profiler.report.base.study_view import view_study
from profiler.report.base.text import public_path
from profiler.report.figures.study import write_figures
from profiler.report.markdown.study import END_MARK, FIGURES_NAME, PAGE_NAME, report_markdown, study_readme
from profiler.report.markdown.tables import study_tables
from profiler.report.page.study import study_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiler.records.schema import Record
    from profiler.records.store import RecordStore


def publish(store: RecordStore) -> tuple[Path, ...]:
    """Writes `tables.md`, `records.csv`, `records.parquet` and `README.md` of a study; returns their paths.

    Raises:
        ConfigError: if the study has no record, or its notes cannot be read.
        EnvironmentUnfitError: if a file cannot be written.
    """
    records = read_records(store)
    if not records:
        raise ConfigError(f"there is no record in {store.directory}", hint="a sweep puts them there")
    directory, notes = store.directory, read_notes(store.directory).sweeps
    clear_leftovers(directory)
    name = directory.resolve().name
    tables, readme = directory / "tables.md", directory / "README.md"
    write_file(tables, study_tables(records, name=name, place=public_path(directory)))
    write_file(readme, study_readme(records, notes, name=name) + text_below(END_MARK, readme))
    return (readme, tables, *_write_frames(store, records, directory))


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
    write_file(page, study_page(view))
    figures = write_figures(view, directory / FIGURES_NAME)
    write_file(text, report_markdown(view, figures))
    write_file(tables, study_tables(view.records, name=view.name, place=view.name))
    frames = _write_frames(store, view.records, directory)
    return (page, text, tables, *frames, *(path for figure in figures for path in figure.paths))


def _write_frames(store: RecordStore, records: Sequence[Record], directory: Path) -> tuple[Path, ...]:
    frame = to_frame(whole_records(store, records))
    paths = (directory / "records.csv", directory / "records.parquet")
    for path in paths:
        write_frame(frame, path)
    return paths
