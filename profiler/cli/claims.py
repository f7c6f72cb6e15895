"""`peakvram claims`: published claims about GPU memory, checked one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o
from profiler.cli.run import read_timeout
from profiler.cli.sweep import InterruptedSweepError
from profiler.files import check_directory
from profiler.records.store import RecordStore
from profiler.report.base.text import literal
from profiler.report.terminal.output import data_output, notice, print_json_value, report_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiler.evidence.claims.audit import Audit
    from profiler.evidence.claims.documents import Document

DEFAULT_OUT = Path("results/claims")

DocumentId = Annotated[
    str | None,
    typer.Option("--document", metavar="ID", help="Only this document's claims (a file of configs/claims)."),
]
Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Where records and tables go; stored jobs are not run again."),
]
Run = Annotated[
    bool,
    o.switch(
        "--run/--no-run",
        "Run the jobs that have no record yet; otherwise judge from those there are (default run)",
    ),
]


def claims(  # noqa: PLR0913 - one parameter a flag
    *,
    document: DocumentId = None,
    out: Out = DEFAULT_OUT,
    run: Run = True,
    workers: o.Workers = None,
    timeout: o.Timeout = None,
    json: o.Json = False,
) -> int:
    """Check what others have published about GPU memory, each claim against runs or arithmetic.

    Runs the jobs that have no record yet, packs the records, and writes README.md and claims.csv. Claims of
    other documents than the one named are judged from the records there are.

    \b
    peakvram claims
    peakvram claims --document component-table-7b --out results/claims
    peakvram claims --no-run --json

    Exit codes: 0 done, whatever the verdicts, 1 some job failed, 2 usage, 3 unfit environment,
    130 interrupted.
    """  # noqa: D301 - \b keeps the examples' lines apart
    from profiler.evidence.claims.audit import audit_claims, run_missing  # noqa: PLC0415 - not for --help
    from profiler.evidence.claims.documents import load_claims  # noqa: PLC0415 - not for --help

    claim_set = load_claims()
    documents = (claim_set.document(document),) if document else claim_set.documents
    limit_s = read_timeout(timeout)
    check_directory(out / "records")
    store = RecordStore(out)
    report_problems(store)
    wanted = [claim for each in documents for claim in each.claims]
    summary = run_missing(wanted, claim_set, store, num_workers=workers, timeout_s=limit_s) if run else None
    _deliver(documents, audit_claims(claim_set, store), as_json=json)
    if summary is not None and summary.is_interrupted:
        raise InterruptedSweepError("interrupted", hint="the same command goes on where this one stopped")
    return 1 if summary is not None and (summary.num_failed or summary.num_refused) else 0


def _deliver(documents: Sequence[Document], audit: Audit, *, as_json: bool) -> None:
    from profiler.evidence.claims.report import claim_row, claims_table, summary_line  # noqa: PLC0415 - not for --help

    chosen = [(each, audit.judgements[claim.id]) for each in documents for claim in each.claims]
    judgements = [judgement for _, judgement in chosen]
    written = f"Wrote {', '.join(map(str, audit.paths))}"
    if as_json:
        print_json_value([claim_row(each, judgement) for each, judgement in chosen])
        notice(written)
        return
    with data_output() as console:
        console.print(claims_table(judgements))
        console.print()
        console.print(literal(summary_line(judgements)), soft_wrap=True)
        console.print(literal(written), soft_wrap=True)
