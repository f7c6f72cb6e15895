"""`peakvram export`: a study's records as tables, for people and for programs."""

from __future__ import annotations

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.records.store import RecordStore
from profiler.report.terminal.output import print_written, report_problems


def export(*, directory: o.StudyDirectory, json: o.Json = False) -> int:
    """Write the tables of a study: Markdown to read, CSV and Parquet to compute with.

    Writes README.md, tables.md, records.csv and records.parquet into DIR, anew from its records.

    \b
    peakvram export results/smoke

    Exit codes: 0 done, 2 there is no record, 3 a file cannot be written.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.report.files.study import publish  # noqa: PLC0415 - not for --help

    store = RecordStore(directory)
    report_problems(store)
    paths = publish(store)
    print_written(paths, as_json=json)
    return 0
