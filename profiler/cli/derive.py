"""`peakvram derive`: a formula for a job whatever its batch, found from a few virtual runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.job import JobFlags, takes_job
from profiler.report.terminal.output import data_output, notice, print_json_value

if TYPE_CHECKING:
    from profiler.derive.make import Derived

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where to write the formula (default: the user's cache)."),
]
Longest = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=64, help="The longest row of tokens to look at (default: the model's positions)"
    ),
]
Workers = Annotated[int | None, typer.Option(metavar="N", min=1, help="Runs at a time (default: one a core)")]


@takes_job()
def derive(
    *,
    job: JobFlags,
    longest: Longest = None,
    workers: Workers = None,
    out: Out = None,
    json: o.Json = False,
) -> int:
    """Derive a job's formula: exact for any batch size and length, with the libraries that are installed.

    Runs the job with a few batches on a virtual card, and finds what its allocator does with any other.
    `peakvram estimate` uses the formula from then on.

    \b
    peakvram derive llama-3.1-8b --method lora
    peakvram derive ./my-model --method full --no-gradient-checkpointing

    Exit codes: 0 done, 1 the job cannot be followed, 2 usage, 3 unfit environment, 130 interrupted.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.derive.make import make_derived  # noqa: PLC0415 - not for --help
    from profiler.report.terminal.derived import show_derived, tell_run  # noqa: PLC0415 - not for --help

    spec, reasons = job.read()
    for reason in reasons:
        notice(reason)
    with tell_run(f"deriving a formula for {spec.model}") as on_run:
        made = make_derived(spec, longest=longest, num_workers=workers, directory=out, on_run=on_run)
    if json:
        print_json_value(_tree(made))
    else:
        with data_output() as console:
            show_derived(console, made.file)
    notice(f"Wrote {made.path}")
    return 0


def _tree(made: Derived) -> dict[str, object]:
    return {
        "path": str(made.path),
        **made.file.model_dump(mode="json", exclude={"bodies", "regimes", "owners"}),
        "num_regimes": len(made.file.regimes),
    }
