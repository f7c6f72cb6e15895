from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.cli.miss import tell_miss_of_run
from profiler.records.schema import Outcome, OutcomeStatus
from profiler.records.store import write_record
from tests.builders import a_job, a_record

if TYPE_CHECKING:
    from pathlib import Path

ASK = ["estimate", "llama-3.1-8b", "--method", "lora", "--seq-len", "1024", "--gpu", "rtx-4090"]
JOB = a_job(model="llama-3.1-8b", method={"kind": "lora"}, seq_len=1024, gpu="rtx-4090")
OOM = a_record(spec=JOB, outcome=Outcome(status=OutcomeStatus.OOM))


def test_a_run_says_where_its_estimate_missed(capsys: pytest.CaptureFixture[str]) -> None:
    tell_miss_of_run(a_record(spec=JOB))
    assert "allocated, missed; the run counts: 10.00 GiB" in capsys.readouterr().err
    tell_miss_of_run(OOM)
    assert "the estimate of this job missed, the run counts. Estimate: fits" in capsys.readouterr().err


@pytest.mark.parametrize("status", [OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT])
def test_a_run_that_failed_of_something_else_contradicts_nothing(
    status: OutcomeStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_miss_of_run(a_record(spec=JOB, outcome=Outcome(status=status)))
    assert capsys.readouterr().err == ""


def test_an_estimate_says_where_a_run_of_its_job_counts_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(ASK) == 0
    assert capsys.readouterr().err == ""
    write_record(tmp_path / "results/adhoc/records", OOM)
    assert run_command([*ASK, "--json"]) == 0
    assert "the estimate of this job missed, the run counts" in capsys.readouterr().err
    assert run_command([*ASK, "--batch-size", "2"]) == 0  # another job
    assert capsys.readouterr().err == ""


def test_a_file_that_is_no_record_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_record(tmp_path / "results/adhoc/records", OOM)
    path.write_text("{}")
    assert run_command(ASK) == 0
    assert capsys.readouterr().err == ""
