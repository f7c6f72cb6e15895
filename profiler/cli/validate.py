"""`peakvram validate`: published measurements of real cards against virtual ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from profiler.cli import options as o
from profiler.report.base.text import literal
from profiler.report.terminal.output import data_output, print_json_value

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
Run: TypeAlias = Annotated[bool, o.switch("--run/--no-run", "Run jobs that have no record yet (default on)")]


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
    from profiler.evidence.measurements import report, validation  # noqa: PLC0415 - not for --help
    from profiler.evidence.measurements.environments import find_library_set  # noqa: PLC0415 - not for --help
    from profiler.evidence.measurements.mapping import load_mapping  # noqa: PLC0415 - not for --help
    from profiler.evidence.measurements.published import load_measurements  # noqa: PLC0415 - not for --help
    from profiler.records.store import RecordStore  # noqa: PLC0415 - not for --help

    mapped = load_mapping(load_measurements())
    ids = [name.strip() for part in rows or [] for name in part.split(",")]
    chosen = validation.choose_rows(mapped, sources=source or [], ids=ids)
    wanted = [find_library_set(name) for name in env or []]
    sets = validation.library_sets(mapped, wanted)
    current = validation.current_libraries()
    store = RecordStore(out)
    if run:
        validation.run_rows(chosen, store, current=current, wanted=wanted, python=python)
    page, paths = validation.publish_validation(mapped, store, sets=sets, current=current)
    if json:
        summary, compared = report.bar_rows(page.results), report.comparison_rows(page.comparisons)
        print_json_value({"summary": summary, "rows": compared})
    else:
        with data_output() as console:
            console.print(report.bars_table(page.results))
            for path in paths:
                console.print(literal(f"Wrote {path}"), soft_wrap=True)
    return 1 if report.has_failures(page.comparisons) else 0
