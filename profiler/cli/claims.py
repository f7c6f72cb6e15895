"""`peakvram claims`: published claims about GPU memory, checked one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler.cli import options as o  # noqa: TC001 - typer reads the annotations
from profiler.cli.run import read_timeout
from profiler.cli.study import report_problems
from profiler.cli.sweep import InterruptedSweepError
from profiler.errors import ConfigError
from profiler.files import check_directory, write_file
from profiler.records.store import RecordStore
from profiler.report.base.text import literal
from profiler.report.terminal.output import data_output, notice, print_json_value
from profiler.report.terminal.progress import sweep_progress

if TYPE_CHECKING:
    from profiler.evidence.claims.documents import ClaimSet, Document
    from profiler.evidence.claims.judge import Judgement
    from profiler.execute.options import SweepSummary
    from profiler.records.schema import Record

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
    typer.Option(
        "--run/--no-run",
        metavar="",
        help="Run the jobs that have no record yet; otherwise judge from those there are (default run)",
        show_default=False,
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
    from profiler.evidence.claims.documents import load_claims  # noqa: PLC0415 - not for --help
    from profiler.evidence.claims.judge import judge  # noqa: PLC0415

    claim_set = load_claims()
    documents = (claim_set.document(document),) if document else claim_set.documents
    limit_s = read_timeout(timeout)
    check_directory(out / "records")
    store = RecordStore(out)
    report_problems(store)
    summary = _run(documents, claim_set, store, workers=workers, timeout_s=limit_s) if run else None
    records = _newest(store)
    judgements = {claim.id: judge(claim, claim_set, records) for claim in claim_set.claims}
    paths = _write(claim_set, judgements, store, records)
    _deliver(documents, judgements, paths, as_json=json)
    if summary is not None and summary.is_interrupted:
        raise InterruptedSweepError("interrupted", hint="the same command goes on where this one stopped")
    return 1 if summary is not None and (summary.num_failed or summary.num_refused) else 0


def _run(
    documents: tuple[Document, ...],
    claim_set: ClaimSet,
    store: RecordStore,
    *,
    workers: int | None,
    timeout_s: float | None,
) -> SweepSummary | None:
    """Runs the jobs without a record; None where there are none."""
    from profiler.evidence.claims.jobs import all_jobs  # noqa: PLC0415
    from profiler.execute.pending import pending_jobs  # noqa: PLC0415 - `claims --help` needs none of it
    from profiler.execute.schedule import SweepOptions, run_sweep  # noqa: PLC0415

    wanted = [claim for document in documents for claim in document.claims]
    pending = pending_jobs(all_jobs(wanted, claim_set.grids), store)
    if not pending.todo:
        return None
    # Each claim needs the figure of its own jobs: none is inferred from another.
    options = SweepOptions(timeout_s=timeout_s, prune=False, num_workers=workers)
    with sweep_progress(len(pending.todo)) as events:
        return run_sweep(pending.todo, store, options, events, seen=pending.seen)


def _newest(store: RecordStore) -> dict[str, Record]:
    """The newest record of each job, whatever the versions it ran under."""
    found = sorted((stored.record for stored in store.scan().records), key=lambda record: record.created_at)
    return {record.key: record for record in found}


def _write(
    claim_set: ClaimSet, judgements: dict[str, Judgement], store: RecordStore, records: dict[str, Record]
) -> list[Path]:
    from profiler.evidence.claims.jobs import all_jobs  # noqa: PLC0415 - not for --help
    from profiler.evidence.claims.report import claims_csv, claims_readme  # noqa: PLC0415
    from profiler.jobs.identity import job_key  # noqa: PLC0415
    from profiler.records.pack import pack_study  # noqa: PLC0415

    if records:
        pack_study(store, remove=True)
    keys = [job_key(job) for job in all_jobs(claim_set.claims, claim_set.grids)]
    used = [records[key] for key in keys if key in records]
    readme, table = store.directory / "README.md", store.directory / "claims.csv"
    write_file(readme, claims_readme(claim_set, judgements, used, before=_read_text(readme)))
    write_file(table, claims_csv(claim_set, judgements))
    return [readme, table]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read", hint="move it away to have it written anew") from None


def _deliver(
    documents: tuple[Document, ...], judgements: dict[str, Judgement], paths: list[Path], *, as_json: bool
) -> None:
    from profiler.evidence.claims.report import claim_row, claims_table, summary_line  # noqa: PLC0415 - not for --help

    chosen = [(document, judgements[claim.id]) for document in documents for claim in document.claims]
    if as_json:
        print_json_value([claim_row(document, judgement) for document, judgement in chosen])
        notice(f"Wrote {', '.join(map(str, paths))}")
        return
    with data_output() as console:
        console.print(claims_table(judgement for _, judgement in chosen))
        console.print()
        console.print(literal(summary_line(judgement for _, judgement in chosen)), soft_wrap=True)
        console.print(literal(f"Wrote {', '.join(map(str, paths))}"), soft_wrap=True)
