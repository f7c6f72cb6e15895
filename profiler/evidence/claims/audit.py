"""What an audit of published claims does: the jobs it still has to run, its verdicts, its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.evidence.claims.jobs import all_jobs
from profiler.evidence.claims.judge import Judgement, judge_claim
from profiler.evidence.claims.report import CLAIMS_END_MARK, claims_csv, claims_readme
from profiler.files import text_below, write_file
from profiler.jobs.identity import job_key
from profiler.records.pack import pack_study
from profiler.report.terminal.progress import sweep_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from profiler.evidence.claims.documents import Claim, ClaimSet
    from profiler.execute.options import SweepSummary
    from profiler.records.schema import Record
    from profiler.records.store import RecordStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Every claim and what became of it.

    Attributes:
        judgements: of every claim, by its id.
        paths: the tables that were written.
    """

    judgements: Mapping[str, Judgement]
    paths: tuple[Path, ...]


def run_missing(
    claims: Iterable[Claim],
    claim_set: ClaimSet,
    store: RecordStore,
    *,
    num_workers: int | None,
    timeout_s: float | None,
) -> SweepSummary | None:
    """Runs the jobs of some claims that have no record; None where there are none."""
    from profiler.execute.pending import pending_jobs  # noqa: PLC0415 - most audits run nothing
    from profiler.execute.schedule import SweepOptions, run_sweep  # noqa: PLC0415 - only to run what is missing

    pending = pending_jobs(all_jobs(claims, claim_set.grids), store)
    if not pending.todo:
        return None
    # Each claim needs the figure of its own jobs: none is inferred from another.
    options = SweepOptions(timeout_s=timeout_s, prune=False, num_workers=num_workers)
    with sweep_progress(len(pending.todo)) as events:
        return run_sweep(pending.todo, store, options, events, seen=pending.seen)


def audit_claims(claim_set: ClaimSet, store: RecordStore) -> Audit:
    """Judges every claim by the records of a study, packs those and writes the tables beside them.

    Raises:
        ConfigError: if a claim's jobs or arguments are none, or the page that is there cannot be read.
    """
    records = _newest(store)
    judgements = {claim.id: judge_claim(claim, claim_set, records) for claim in claim_set.claims}
    if records:
        pack_study(store, remove=True)
    keys = [job_key(job) for job in all_jobs(claim_set.claims, claim_set.grids)]
    used = [records[key] for key in keys if key in records]
    readme, table = store.directory / "README.md", store.directory / "claims.csv"
    write_file(readme, claims_readme(claim_set, judgements, used) + text_below(CLAIMS_END_MARK, readme))
    write_file(table, claims_csv(claim_set, judgements))
    return Audit(judgements=judgements, paths=(readme, table))


def _newest(store: RecordStore) -> dict[str, Record]:
    """The newest record of each job, whatever the versions it ran under."""
    records = sorted((stored.record for stored in store.scan().records), key=lambda record: record.created_at)
    return {record.key: record for record in records}
