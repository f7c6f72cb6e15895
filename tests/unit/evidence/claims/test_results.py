from __future__ import annotations

import csv
import io
import shutil
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.evidence.claims.documents import load_claims
from profiler.records.store import RecordStore
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.records.schema import Record

RESULTS = ROOT / "results" / "claims"


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    return {stored.record.key: stored.record for stored in RecordStore(RESULTS).scan().records}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((RESULTS / "claims.csv").read_text())))


@pytest.mark.slow
def test_the_published_tables_are_those_the_records_give(tmp_path: Path) -> None:
    again = tmp_path / "claims"
    shutil.copytree(RESULTS, again)
    assert run_command(["claims", "--no-run", "--out", str(again)]) == 0
    for name in ("README.md", "claims.csv"):
        assert (again / name).read_text() == (RESULTS / name).read_text(), f"`peakvram claims` writes {name}"


def test_every_claim_has_a_verdict(rows: list[dict[str, str]]) -> None:
    assert [row["id"] for row in rows] == [claim.id for claim in load_claims().claims]
    assert [row["id"] for row in rows if row["verdict"] == "not run"] == []
    assert sum(row["verdict"] != "not checkable" for row in rows) >= 80


def test_every_figure_of_a_run_leads_to_records_of_virtual_cards(
    rows: list[dict[str, str]], records: dict[str, Record]
) -> None:
    for row in rows:
        keys = [*row["lowest_keys"].split(), *row["highest_keys"].split()]
        assert bool(keys) == (row["evidence"] == "virtual"), row["id"]
        for key in keys:
            device = records[key].device
            assert device is not None
            assert device.kind == "virtual"
