"""What each flag of a command is called, takes and says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer


def switch(name: str, text: str) -> Any:
    """A flag that takes no value; `--name/--no-name` has an opposite."""
    return typer.Option(name, metavar="", help=text, show_default=False)


ADHOC = Path("results/adhoc")
"""Where the records of single jobs go."""
Out: TypeAlias = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where results go; records in DIR/records.")
]
Json: TypeAlias = Annotated[bool, switch("--json", "Print JSON on stdout instead of tables.")]

AllowBusy: TypeAlias = Annotated[bool, switch("--allow-busy", "Run on a real card that others use.")]
DryRun: TypeAlias = Annotated[
    bool, switch("--dry-run", "Only say whether the job can run, from the model's config.")
]
Timeout: TypeAlias = Annotated[
    str | None, typer.Option(metavar="SECONDS", help="Stop the job after this time.")
]

SweepFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A sweep file (docs/sweeps.md), or the name of a shipped one.",
        show_default=False,
    ),
]
SweepSet: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key of every job, such as steps=2; a list takes an axis's place. Repeatable.",
    ),
]
SweepOut: TypeAlias = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The study; records in DIR/records (default results/NAME)"),
]
StudyDirectory: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A study: what `peakvram sweep` has written.", show_default=False),
]
Rerun: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="WHICH", help="Run stored jobs again: failed, oom (those out of memory) or all."),
]
Limit: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Run at most so many jobs this time.")
]
FailFast: TypeAlias = Annotated[bool, switch("--fail-fast", "Stop at the first job that fails.")]
Prune: TypeAlias = Annotated[
    bool,
    switch(
        "--prune/--no-prune", "Infer that a job runs out of memory from a smaller one that did (default on)"
    ),
]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Virtual jobs at a time (default: one a core)")
]
