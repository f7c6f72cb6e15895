from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.records.store import RecordStore
from tests.unit.cli.conftest import scheduler  # noqa: F401 - a fixture
from tests.unit.cli.scheduler import ERROR, with_outcomes
from tests.unit.evidence.claims.test_documents import GRIDS, GUIDE

if TYPE_CHECKING:
    from tests.unit.cli.scheduler import Scheduler

OTHER = """
title: Another guide
author: Somebody else
published: "2025"
claims:
  - id: weights
    quote: 7B is 14 GB
    says: The weights of a 7B model take 14 GB.
    assumes: Llama-2-7B.
    claimed: 14GB
    evidence: {kind: arithmetic, calculator: weights, arguments: {model: llama-2-7b, bits: 16}}
"""


@pytest.fixture(autouse=True)
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "configs" / "claims"
    directory.mkdir(parents=True)
    (directory / "grids.yaml").write_text(GRIDS)
    (directory / "guide.yaml").write_text(GUIDE)
    (directory / "other.yaml").write_text(OTHER)
    monkeypatch.setattr("profiler.evidence.claims.documents.configs_dir", lambda: tmp_path / "configs")


def test_claims_run_their_jobs_and_write_the_tables(
    scheduler: Scheduler,  # noqa: F811 - the fixture
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["claims"]) == 0
    assert [job.seq_len for job in scheduler.asked] == [512, 1024]
    assert scheduler.options.prune is False
    out = capsys.readouterr().out.splitlines()
    assert out[-2:] == [
        "2 claims: 1 holds, 1 too high",
        "Wrote results/claims/README.md, results/claims/claims.csv",
    ]
    page = Path("results/claims/README.md").read_text()
    assert page.startswith("# Published claims about GPU memory, checked\n\n2 claims: 1 holds, 1 too high\n")
    assert "    peakvram claims\n" in page


def test_the_records_are_packed_and_not_run_again(scheduler: Scheduler) -> None:  # noqa: F811
    assert run_command(["claims"]) == 0
    store = RecordStore(Path("results/claims"))
    assert len(store.scan().records) == 2
    assert list(store.records_directory.iterdir()) == []
    before = Path("results/claims/README.md").read_bytes(), store.pack_path.read_bytes()
    assert run_command(["claims"]) == 0
    assert len(scheduler.asked) == 2
    assert (Path("results/claims/README.md").read_bytes(), store.pack_path.read_bytes()) == before


def test_without_running_claims_are_judged_from_what_there_is(
    scheduler: Scheduler,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["claims", "--no-run", "--out", "there"]) == 0
    assert scheduler.asked == []
    assert "2 claims: 1 holds, 1 not run" in capsys.readouterr().out
    assert Path("there/claims.csv").is_file()


def test_one_document_alone_runs_no_other_s_jobs(
    scheduler: Scheduler,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["claims", "--document", "other"]) == 0
    assert scheduler.asked == []
    assert "1 claim: 1 holds" in capsys.readouterr().out
    assert "Another guide" in Path("results/claims/README.md").read_text()
    assert "A guide" in Path("results/claims/README.md").read_text()


@pytest.mark.usefixtures("scheduler")
def test_json_holds_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["claims", "--json"]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [(row["id"], row["verdict"]) for row in rows] == [("total", "too high"), ("weights", "holds")]
    assert rows[1]["found_low"] == 2 * 6_738_415_616
    assert captured.err.splitlines()[-1].startswith("Wrote results/claims/README.md")


def test_a_failed_job_leaves_its_claim_open_and_is_the_exit_code(
    scheduler: Scheduler,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_outcomes(scheduler, at_512=ERROR)
    assert run_command(["claims"]) == 1
    assert "1 holds, 1 not run" in capsys.readouterr().out
    assert "1 of 2 figures are missing" in Path("results/claims/README.md").read_text()


def test_an_interrupted_audit_says_how_to_go_on(
    scheduler: Scheduler,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    scheduler.interrupt_after = 1
    assert run_command(["claims"]) == 130
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: interrupted",
        "hint: the same command goes on where this one stopped",
    ]
    scheduler.interrupt_after = None
    assert run_command(["claims"]) == 0
    assert len(scheduler.asked) == 2


def test_an_unknown_document_is_named_with_the_nearest(
    scheduler: Scheduler,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["claims", "--document", "guid"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: there is no document 'guid'",
        "hint: did you mean 'guide'?",
    ]
    assert scheduler.asked == []
    assert not Path("results").exists()


@pytest.mark.usefixtures("scheduler")
def test_what_somebody_wrote_below_the_mark_is_kept() -> None:
    assert run_command(["claims"]) == 0
    page = Path("results/claims/README.md")
    page.write_text(page.read_text() + "\n## What to make of it\n")
    assert run_command(["claims"]) == 0
    assert page.read_text().endswith("## What to make of it\n")


@pytest.mark.usefixtures("scheduler")
def test_a_page_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results/claims").mkdir(parents=True)
    Path("results/claims/README.md").write_bytes(b"\xff")
    assert run_command(["claims", "--no-run"]) == 2
    assert "cannot read results/claims/README.md: it is not UTF-8 text" in capsys.readouterr().err
