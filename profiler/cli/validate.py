"""`peakvram validate`: published measurements of real cards against virtual ones."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.errors import ConfigError
from profiler.report.base.text import literal, plain_table
from profiler.report.terminal.output import data_output, notice, print_json_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiler.evidence.measurements.differences import BarResult, ComparedRow
    from profiler.evidence.measurements.environments import LibrarySet
    from profiler.evidence.measurements.mapping import Mapped, MappedRow
    from profiler.jobs.job import JobSpec
    from profiler.records.store import RecordStore

Sources: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="NAME", help="Run this source's rows only, such as fms. Repeatable."),
]
Rows: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--rows", metavar="ID,...", help="Run these rows only, such as fms-007,fms-013. Repeatable."
    ),
]
Environments: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="FILE",
        help="Run the rows that ask for these library versions with them: a file, or a shipped one's name. "
        "Repeatable.",
    ),
]
Python: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="The Python that has the versions of --env (default: .venv-NAME, made by pip)"
    ),
]
Directory: TypeAlias = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where records, tables and the figure go.")
]
Run: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--run/--no-run",
        metavar="",
        help="Run jobs that have no record yet (default on)",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Jobs, and the Python that has their libraries."""

    jobs: tuple[JobSpec, ...]
    libraries: LibrarySet
    python: Path


def validate(  # noqa: PLR0913 - one parameter a flag
    *,
    source: Sources = None,
    rows: Rows = None,
    env: Environments = None,
    python: Python = None,
    out: Directory = Path("results/validation"),
    run: Run = True,
    json: o.Json = False,
) -> int:
    """Compare virtual cards with what others have measured on real ones, and published.

    Every published row that a job can stand for is run on the virtual card of its GPU, with the libraries
    installed here; the rows that a file of --env names are run with its versions too. Stored jobs are not run
    again. Writes README.md, validation.csv and a figure of all rows into DIR, from all records there.

    \b
    peakvram validate
    peakvram validate --env fms-transformers-4.48 --env fms-transformers-4.45
    peakvram validate --rows fms-013 --env fms-transformers-4.48 --python ../old/bin/python

    Exit codes: 0 done, whatever the differences; 1 a job failed; 2 usage; 3 unfit environment.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.evidence.measurements.environments import find_library_set  # noqa: PLC0415 - not for --help
    from profiler.evidence.measurements.mapping import load_mapping  # noqa: PLC0415
    from profiler.evidence.measurements.published import load_measurements  # noqa: PLC0415
    from profiler.records.store import RecordStore  # noqa: PLC0415

    mapped = load_mapping(load_measurements())
    chosen = _choose(mapped, sources=source, rows=rows)
    wanted = [find_library_set(name) for name in env or []]
    named = dict.fromkeys(row.environment for row in mapped.rows if row.environment)
    sets = {name: find_library_set(name) for name in named} | {item.name: item for item in wanted}
    current = _current_libraries()
    store = RecordStore(out)
    if run:
        _run_all(chosen, store, current=current, wanted=wanted, python=python)
    comparisons, verdicts, paths = _publish(mapped, store, sets=sets, current=current)
    if json:
        _print_json(comparisons, verdicts)
    else:
        _show(verdicts, paths)
    outcomes = {reading.outcome for item in comparisons for reading in (item.own, item.current) if reading}
    return 1 if outcomes - {"ok", "oom"} else 0


def _choose(mapped: Mapped, *, sources: Sequence[str] | None, rows: Sequence[str] | None) -> list[MappedRow]:
    """The rows to run: all, or those of some sources, or those named."""
    from profiler.jobs.problems import nearest_hint  # noqa: PLC0415

    ids = [name.strip() for part in rows or [] for name in part.split(",")]
    known = {row.measurement.id: row for row in mapped.rows}
    reasons = {row.measurement.id: row.reason for row in mapped.refused}
    for name in ids:
        if name in reasons:
            raise ConfigError(f"row {name} has no job: {reasons[name]}")
        if name not in known:
            raise ConfigError(f"there is no row {name!r:.40}", hint=nearest_hint(name, list(known)))
    for name in sources or []:
        if name not in mapped.titles:
            raise ConfigError(
                f"there is no source {name!r:.40}", hint=nearest_hint(name, list(mapped.titles))
            )
    return [
        row
        for row in mapped.rows
        if (not ids or row.measurement.id in ids) and (not sources or row.measurement.source in sources)
    ]


def _current_libraries() -> LibrarySet:
    from profiler.evidence.measurements.environments import LIBRARIES, LibrarySet, public_version  # noqa: PLC0415
    from profiler.process.environment import read_environment  # noqa: PLC0415

    environment = read_environment(alloc_conf="", driver=None)
    versions = {name: public_version(getattr(environment, name)) for name in LIBRARIES}
    return LibrarySet(name="here", path=Path(), versions=versions)


def _run_all(
    chosen: Sequence[MappedRow],
    store: RecordStore,
    *,
    current: LibrarySet,
    wanted: Sequence[LibrarySet],
    python: Path | None,
) -> None:
    from profiler.evidence.measurements.batch import run_batch  # noqa: PLC0415
    from profiler.evidence.measurements.published import published_dir  # noqa: PLC0415
    from profiler.files import check_directory  # noqa: PLC0415

    if python is not None and len(wanted) != 1:
        raise ConfigError("--python goes with one --env", hint="name the environment that this Python has")
    check_directory(store.records_directory)
    batches = [_Batch(jobs=_jobs(chosen), libraries=current, python=Path(sys.executable))]
    batches += [_batch(chosen, libraries, python=python) for libraries in wanted]
    for batch in batches:
        notice(f"{len(batch.jobs)} jobs with {batch.libraries.label}")
        run_batch(batch.jobs, store.directory, python=batch.python, directory=published_dir())


def _batch(chosen: Sequence[MappedRow], libraries: LibrarySet, *, python: Path | None) -> _Batch:
    from profiler.evidence.measurements.environments import check_python, ensure_python  # noqa: PLC0415

    jobs = _jobs(row for row in chosen if row.environment == libraries.name)
    if not jobs:
        named = ", ".join(dict.fromkeys(row.environment for row in chosen if row.environment))
        hint = f"they ask for {named}" if named else "they ask for none"
        raise ConfigError(f"none of the rows asks for {libraries.name}", hint=hint)
    if python is None:
        python = ensure_python(libraries, Path(f".venv-{libraries.name}")).absolute()
    # Not resolved: the link is what makes a virtual environment's Python find its libraries.
    python = python.absolute()
    check_python(libraries, python)
    return _Batch(jobs=jobs, libraries=libraries, python=python)


def _jobs(rows: Iterable[MappedRow]) -> tuple[JobSpec, ...]:
    return tuple(dict.fromkeys(row.job for row in rows))


def _publish(
    mapped: Mapped, store: RecordStore, *, sets: Mapping[str, LibrarySet], current: LibrarySet
) -> tuple[list[ComparedRow], list[BarResult], list[Path]]:
    from profiler.evidence.measurements.differences import compare_rows, hold_to_bars  # noqa: PLC0415
    from profiler.records.pack import pack_study  # noqa: PLC0415

    records = [stored.record for stored in store.scan().records]
    if not records:
        raise ConfigError(f"there is no record in {store.directory}", hint="without --no-run they are made")
    pack_study(store, remove=True)
    comparisons = compare_rows(mapped.rows, records, library_sets=sets, current=current)
    verdicts = hold_to_bars(comparisons)
    paths = _write(mapped, store, comparisons, verdicts, sets=sets, current=current)
    return comparisons, verdicts, paths


def _write(  # noqa: PLR0913 - the parts of the page
    mapped: Mapped,
    store: RecordStore,
    comparisons: Sequence[ComparedRow],
    verdicts: Sequence[BarResult],
    *,
    sets: Mapping[str, LibrarySet],
    current: LibrarySet,
) -> list[Path]:
    from profiler.evidence.measurements.device_gap import device_gaps, device_outside  # noqa: PLC0415
    from profiler.evidence.measurements.report import (  # noqa: PLC0415
        FIGURE_NAME,
        ValidationPage,
        csv_text,
        validation_markdown,
    )
    from profiler.evidence.measurements.scatter import write_scatter  # noqa: PLC0415
    from profiler.files import write_file  # noqa: PLC0415

    directory = store.directory
    records = [stored.record for stored in store.scan().records]
    page = ValidationPage(
        comparisons=comparisons,
        verdicts=verdicts,
        mapped=mapped,
        library_sets=sets,
        current=current,
        gaps=device_gaps(comparisons, records, library_sets=sets),
        outside=device_outside(comparisons),
    )
    write_file(directory / "README.md", validation_markdown(page))
    write_file(directory / "validation.csv", csv_text(comparisons))
    figures = write_scatter(comparisons, directory, name=FIGURE_NAME)
    return [directory / "README.md", directory / "validation.csv", *figures]


def _print_json(comparisons: Sequence[ComparedRow], verdicts: Sequence[BarResult]) -> None:
    from profiler.evidence.measurements.report import bar_rows, comparison_rows  # noqa: PLC0415

    print_json_value({"summary": bar_rows(verdicts), "rows": comparison_rows(comparisons)})


def _show(verdicts: Sequence[BarResult], paths: Sequence[Path]) -> None:
    from profiler.evidence.measurements.report import show_percent  # noqa: PLC0415

    columns = {"virtual against published": "left", "rows": "right", "median": "right", "worst": "right"}
    shown = plain_table(columns | {"bar": "right", "met": "left"})
    for verdict in verdicts:
        bars = (verdict.bar.max_median, verdict.bar.max_worst)
        shown.add_row(
            literal(verdict.bar.name),
            str(len(verdict.shares)),
            show_percent(verdict.median),
            show_percent(verdict.worst[0] if verdict.worst else None),
            ", ".join(show_percent(bar) for bar in bars if bar is not None),
            "yes" if verdict.is_met else "no",
        )
    with data_output() as console:
        console.print(shown)
        for path in paths:
            console.print(literal(f"Wrote {path}"), soft_wrap=True)
