"""`peakvram report`: a study as a page, as figures and as tables, from its stored records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.records.store import RecordStore
from profiler.report.terminal.output import print_written, report_problems

ReportOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the report goes (default the study's DIR)")
]
ReportGpu = Annotated[
    str | None,
    typer.Option("--gpu", metavar="ID", help="The card to answer for, by formula (default the study's own)"),
]
ReportFactors = Annotated[
    Path | None,
    typer.Option(
        "--factors",
        metavar="FILE",
        help="Correction factors to use (default DIR/factors.json, or else the shipped ones)",
    ),
]


def report(
    *,
    directory: o.StudyDirectory,
    out: ReportOut = None,
    gpu: ReportGpu = None,
    factors: ReportFactors = None,
    json: o.Json = False,
) -> int:
    """Write a study's report: one HTML page that needs no network, figures, Markdown, CSV and Parquet.

    Everything is made from stored records; nothing is run.

    \b
    peakvram report results/rtx-4090
    peakvram report results/a100-80gb --out report --gpu h100-80gb

    Exit codes: 0 done, 2 there is no record, 3 a file cannot be written.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.report.files.study import write_report  # noqa: PLC0415 - not for --help

    store = RecordStore(directory)
    report_problems(store)
    paths = write_report(store, out=out, factors_path=factors, gpu=gpu)
    print_written(paths, as_json=json)
    return 0
