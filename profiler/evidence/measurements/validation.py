"""What a validation does: the published rows that are run, with which libraries, and the tables it leaves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.evidence.measurements.batch import run_batch
from profiler.evidence.measurements.device_gap import device_gaps, device_outside
from profiler.evidence.measurements.differences import compare_rows, hold_to_bars
from profiler.evidence.measurements.environments import (
    LIBRARIES,
    LibrarySet,
    check_python,
    ensure_python,
    find_library_set,
    public_version,
)
from profiler.evidence.measurements.published import published_dir
from profiler.evidence.measurements.report import (
    FIGURE_NAME,
    ValidationPage,
    comparisons_csv,
    validation_markdown,
)
from profiler.evidence.measurements.scatter import write_scatter
from profiler.files import check_directory, write_file
from profiler.jobs.problems import nearest_hint
from profiler.process.environment import read_environment
from profiler.records.pack import pack_study
from profiler.report.terminal.output import notice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiler.evidence.measurements.mapping import Mapped, MappedRow
    from profiler.jobs.job import JobSpec
    from profiler.records.store import RecordStore

    Batch = tuple[tuple[JobSpec, ...], LibrarySet, Path]
    """Jobs, their libraries, and the Python that has them."""


def choose_rows(mapped: Mapped, *, sources: Sequence[str], ids: Sequence[str]) -> list[MappedRow]:
    """The rows of some sources, or those named; all where neither is given.

    Raises:
        ConfigError: if there is no such source or row, or the row has no job.
    """
    known = {row.measurement.id: row for row in mapped.rows}
    reasons = {row.measurement.id: row.reason for row in mapped.refused}
    for name in ids:
        if name in reasons:
            raise ConfigError(f"row {name} has no job: {reasons[name]}")
        if name not in known:
            raise ConfigError(f"there is no row {name!r:.40}", hint=nearest_hint(name, list(known)))
    for name in sources:
        if name not in mapped.titles:
            raise ConfigError(
                f"there is no source {name!r:.40}", hint=nearest_hint(name, list(mapped.titles))
            )
    return [
        row
        for row in mapped.rows
        if (not ids or row.measurement.id in ids) and (not sources or row.measurement.source in sources)
    ]


def current_libraries() -> LibrarySet:
    """The libraries installed here."""
    environment = read_environment(alloc_conf="", driver=None)
    versions = {name: public_version(getattr(environment, name)) for name in LIBRARIES}
    return LibrarySet(name="here", path=Path(), versions=versions)


def library_sets(mapped: Mapped, wanted: Iterable[LibrarySet]) -> dict[str, LibrarySet]:
    """The sets that rows name, and those that are wanted besides, by name.

    Raises:
        ConfigError: if a row names a file that is no set of libraries.
    """
    named = dict.fromkeys(row.environment for row in mapped.rows if row.environment)
    return {name: find_library_set(name) for name in named} | {each.name: each for each in wanted}


def run_rows(
    rows: Sequence[MappedRow],
    store: RecordStore,
    *,
    current: LibrarySet,
    wanted: Sequence[LibrarySet],
    python: Path | None,
) -> None:
    """Runs the jobs of rows that have no record: with the libraries here, and with each set that is wanted.

    Args:
        rows: the rows; with a set only those that ask for it.
        store: the study whose records are looked at and added to.
        current: the libraries installed here.
        wanted: the other sets.
        python: an interpreter that has the one set wanted; None to have one made by pip where none is.

    Raises:
        ConfigError: if no row asks for a set, or a Python is named for several.
        EnvironmentUnfitError: if a Python cannot be made or started, or has other versions.
    """
    if python is not None and len(wanted) != 1:
        raise ConfigError("--python goes with one --env", hint="name the environment that this Python has")
    check_directory(store.records_directory)
    batches = [(_jobs(rows), current, Path(sys.executable))]
    batches += [_batch(rows, libraries, python=python) for libraries in wanted]
    for jobs, libraries, interpreter in batches:
        notice(f"{len(jobs)} jobs with {libraries.label}")
        run_batch(jobs, store.directory, python=interpreter, directory=published_dir())


def publish_validation(
    mapped: Mapped, store: RecordStore, *, sets: Mapping[str, LibrarySet], current: LibrarySet
) -> tuple[ValidationPage, tuple[Path, ...]]:
    """Compares all rows with the records of a study, packs those, and writes page, table and figure.

    Raises:
        ConfigError: if there is no record.
    """
    records = [stored.record for stored in store.scan().records]
    if not records:
        raise ConfigError(f"there is no record in {store.directory}", hint="without --no-run they are made")
    pack_study(store, remove=True)
    comparisons = compare_rows(mapped.rows, records, library_sets=sets, current=current)
    page = ValidationPage(
        comparisons=comparisons,
        results=hold_to_bars(comparisons),
        mapped=mapped,
        library_sets=sets,
        current=current,
        gaps=device_gaps(comparisons, records, library_sets=sets),
        outside=device_outside(comparisons),
    )
    readme, table = store.directory / "README.md", store.directory / "validation.csv"
    write_file(readme, validation_markdown(page))
    write_file(table, comparisons_csv(comparisons))
    return page, (readme, table, *write_scatter(comparisons, store.directory, name=FIGURE_NAME))


def _batch(rows: Sequence[MappedRow], libraries: LibrarySet, *, python: Path | None) -> Batch:
    jobs = _jobs(row for row in rows if row.environment == libraries.name)
    if not jobs:
        named = ", ".join(dict.fromkeys(row.environment for row in rows if row.environment))
        hint = f"they ask for {named}" if named else "they ask for none"
        raise ConfigError(f"none of the rows asks for {libraries.name}", hint=hint)
    if python is None:
        python = ensure_python(libraries, Path(f".venv-{libraries.name}"))
    # Not resolved: the link is what makes a virtual environment's Python find its libraries.
    python = python.absolute()
    check_python(libraries, python)
    return jobs, libraries, python


def _jobs(rows: Iterable[MappedRow]) -> tuple[JobSpec, ...]:
    return tuple(dict.fromkeys(row.job for row in rows))
