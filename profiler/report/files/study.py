"""Which files a study is published as: all of them are made from its records, and can be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.files import reason_of, write_file
from profiler.records.frame import write_table
from profiler.records.study import read_notes
from profiler.report.markdown.readme import keep_own_text, study_readme
from profiler.report.markdown.tables import study_tables

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.records.store import RecordStore


def publish(store: RecordStore) -> tuple[Path, ...]:
    """Writes `tables.md`, `records.csv`, `records.parquet` and `README.md` of a study; returns their paths.

    Raises:
        ConfigError: if the study has no record, or its notes cannot be read.
        EnvironmentUnfitError: if a file cannot be written.
    """
    records = [stored.record for stored in store.scan().records]
    if not records:
        raise ConfigError(f"there is no record in {store.directory}", hint="a sweep puts them there")
    directory, notes = store.directory, read_notes(store.directory).sweeps
    name = directory.resolve().name
    tables, readme = directory / "tables.md", directory / "README.md"
    write_file(tables, study_tables(records, name=name, place=_place(directory)))
    generated = study_readme(records, notes, name=name)
    write_file(readme, keep_own_text(generated, _read_text(readme)))
    frames = (directory / "records.csv", directory / "records.parquet")
    for path in frames:
        write_table(records, path)
    return (readme, tables, *frames)


def _place(directory: Path) -> str:
    """Where the records are for a reader of the repository; where on this machine is nobody's business."""
    return directory.name if directory.is_absolute() or ".." in directory.parts else str(directory)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"cannot read {path}: {reason}", hint="move it away to have it written anew"
        ) from None
