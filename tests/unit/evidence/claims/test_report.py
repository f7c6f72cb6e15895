from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from profiler.evidence.claims.documents import ClaimSet, Document
from profiler.evidence.claims.figures import Unit
from profiler.evidence.claims.judge import ClaimVerdict, judge_claim
from profiler.evidence.claims.report import (
    claim_row,
    claims_csv,
    claims_readme,
    claims_table,
    count_verdicts,
    show_quantity,
)
from profiler.jobs.identity import job_key
from profiler.records.schema import PhaseName, Record
from profiler.text import as_cell
from profiler.units import GIB
from tests.builders import a_job, a_phase, a_record, a_report
from tests.unit.evidence.claims.claims_data import GRID, RUNS, a_claim, a_set

if TYPE_CHECKING:
    from collections.abc import Mapping

    from syrupy.assertion import SnapshotAssertion

    from profiler.evidence.claims.judge import Judgement

HOSTILE = "<script>alert(1)</script> | [x](http://e.vil) `rm` *b* \x1b[31m\n# heading"


def run_records() -> dict[str, Record]:
    """One record for each job of the grid: 10 GiB at 512 tokens, 20 at 1024."""
    records = {}
    for length in (512, 1024):
        job = a_job(method="lora", seq_len=length)
        phases = (
            a_phase(PhaseName.CONTEXT, end=0),
            a_phase(PhaseName.FORWARD, 0, end=length * GIB // 512 * 10),
        )
        records[job_key(job)] = a_record(spec=job, report=a_report(phases))
    return records


def every_verdict() -> ClaimSet:
    gone = {"kind": "runs", "grid": "two", "figure": "device", "set": {"batch_size": 8}}
    return a_set(
        a_claim(id="holds", place="first row"),
        a_claim(id="too-low", claimed="10GB", note="7 is 6.74 here."),
        a_claim(id="too-high", claimed=["100GB", None]),
        a_claim(id="depends", claimed="10GiB", evidence=RUNS, assumes="Llama-3.1-8B."),
        a_claim(id="not-checkable", claimed=None, evidence={"kind": "none", "reason": "About time."}),
        a_claim(id="not-run", claimed=[None, "10GiB"], evidence=gone),
        a_claim(id="fits", claimed="fits", evidence=RUNS | {"figure": "fit"}),
    )


def judged(claims: ClaimSet) -> Mapping[str, Judgement]:
    records = run_records()
    return {claim.id: judge_claim(claim, claims, records) for claim in claims.claims}


def readme(claims: ClaimSet) -> str:
    return claims_readme(claims, judged(claims), list(run_records().values()))


def test_the_page_of_claims(snapshot: SnapshotAssertion) -> None:
    assert readme(every_verdict()) == snapshot


def test_the_table_of_claims(snapshot: SnapshotAssertion) -> None:
    assert claims_csv(every_verdict(), judged(every_verdict())) == snapshot


def test_the_terminal_shows_what_is_claimed_and_found(snapshot: SnapshotAssertion) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(claims_table(judged(every_verdict()).values()))
    assert console.export_text() == snapshot


def test_each_verdict_is_there_once() -> None:
    counts = count_verdicts(judged(every_verdict()).values())
    assert counts == {verdict: 2 if verdict is ClaimVerdict.HOLDS else 1 for verdict in ClaimVerdict}
    assert list(counts) == list(ClaimVerdict)


def test_hostile_text_stays_text_in_markdown() -> None:
    claim = a_claim(quote=HOSTILE, place=HOSTILE, says=HOSTILE, assumes=HOSTILE, note=HOSTILE)
    document = Document(id="a-guide", title=HOSTILE, author=HOSTILE, published=HOSTILE, claims=(claim,))
    claims = ClaimSet(documents=(document,), grids={"two": GRID.model_copy(update={"about": HOSTILE})})
    page = readme(claims)
    plain = readme(a_set())
    assert re.search(r"(?<!\\)[<>]script", page) is None
    assert re.search(r"(?<!\\)\[x", page) is None
    assert "\x1b" not in page
    assert [line[:2] for line in page.splitlines()] == [line[:2] for line in plain.splitlines()]
    (row,) = [line for line in page.splitlines() if line.startswith("| seven")]
    assert row.replace("\\|", "").count("|") == 7


def test_a_csv_reads_back_what_it_holds() -> None:
    claim = a_claim(quote=HOSTILE, says='"quoted", and\nbroken')
    claims = a_set(claim)
    (row,) = csv.DictReader(io.StringIO(claims_csv(claims, judged(claims))))
    assert row["quote"] == as_cell(HOSTILE)
    assert row["says"] == '"quoted", and\nbroken'
    assert (row["unit"], row["claimed_low"], row["found_low"]) == ("bytes", "14000000000", "13476831232")


def test_a_figure_leads_to_its_record() -> None:
    claims, records = every_verdict(), run_records()
    row = claim_row(claims.documents[0], judged(claims)["depends"])
    assert str(row["lowest_keys"]) in records
    assert records[str(row["lowest_keys"])].spec.seq_len == 512
    assert row["evidence"] == "virtual"


def test_no_virtual_figure_is_called_measured() -> None:
    page = readme(every_verdict())
    assert "10.0 GB" not in page or "virtual" in page
    assert page.count("measured") == 1  # "None of them was measured on hardware."


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (14_800_000_000, Unit.BYTES, "14.8 GB"),
        (4_194_304, Unit.BYTES, "4.19 MB"),
        (512, Unit.BYTES, "512 B"),
        (-2_500_000_000, Unit.BYTES, "-2.50 GB"),
        (1.4e12, Unit.BYTES, "1.40 TB"),
        (0.5625, Unit.BYTES_PER_PARAMETER, "0.56 B/parameter"),
        (4_194_304, Unit.PARAMETERS, "4,194,304"),
        (2, Unit.RATIO, "2.00 x"),
        (31.25, Unit.PERCENT, "31.2 %"),
        (1.7, Unit.EXPONENT, "1.70"),
        (0, Unit.FIT, "fits"),
        (1, Unit.FIT, "does not fit"),
        (None, Unit.BYTES, "-"),
        (1, None, "-"),
    ],
)
def test_quantities_are_shown_with_their_unit(value: float | None, unit: Unit | None, text: str) -> None:
    assert show_quantity(value, unit) == text
