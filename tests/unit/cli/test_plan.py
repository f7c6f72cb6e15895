from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.records.store import RecordStore
from tests.builders import a_job, a_record
from tests.unit.cli.scheduler import OOM, SWEEP
from tests.unit.fit.by_hand import use_formulas_by_hand

if TYPE_CHECKING:
    from tests.unit.cli.scheduler import Scheduler


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    use_formulas_by_hand(monkeypatch)


def test_a_plan_shows_what_is_stored_what_is_to_run_and_what_cannot_be(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sweep.yaml").write_text(
        SWEEP.replace("[512, 1024]", "[1, 512, 1024]") + "zip: {attention_mask: [full, padded]}\n"
        "exclude: [{seq_len: 512, batch_size: 2}]\n"
    )
    store = RecordStore(Path("results/test"))
    store.put(a_record(spec=a_job(seq_len=1024), outcome=OOM))
    assert run_command(["plan", "sweep.yaml"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == ["test", "Two lengths and two batches."]
    assert lines[3].startswith("Jobs, all with model llama-3.1-8b, method qlora r16, gpu rtx-4090")
    estimate = ["15.45", "GiB", "15.14", "to", "15.91", "GiB"]
    decides = ["16.03", "GiB", "7.48", "GiB", "free", "yes"]
    stored = ["stored:", "OOM,", "against", "the", "estimate"]
    assert lines[5].split() == ["1", "1024", "full", *estimate, *decides, *stored]
    assert sum(line.endswith("to run") for line in lines) == 7
    assert "seq_len 1, batch_size 1, attention_mask padded   a padded batch needs seq_len above 1" in lines
    assert lines[-3] == "estimated, nothing was run: 8 fit"
    assert lines[-2] == "8 jobs: 1 stored in results/test, 7 to run; 2 excluded; 2 that are no job"
    assert lines[-1].startswith(
        "note: batch_size 1, seq_len 1024, attention_mask full: its estimate missed, the"
    )
    assert scheduler.asked == []


def test_a_plan_as_json_holds_the_same(scheduler: Scheduler, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "sweep.yaml", "--json", "--out", "there", "--gpu", "a40"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["num_jobs"], plan["num_stored"], plan["directory"]) == (4, 0, "there")
    assert [job["spec"]["gpu"] for job in plan["jobs"]] == ["a40"] * 4
    assert [job["outcome"] for job in plan["jobs"]] == [None] * 4
    assert [job["estimate"]["verdict"]["fits"] for job in plan["jobs"]] == ["yes"] * 4
    allocated = [job["estimate"]["allocated"] for job in plan["jobs"]]
    assert all(band["low_bytes"] < band["value_bytes"] < band["high_bytes"] for band in allocated)
    assert not Path("there").exists()
    assert scheduler.asked == []


@pytest.mark.usefixtures("scheduler")
def test_a_plan_says_which_jobs_will_not_fit_and_of_which_nothing_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("sweep.yaml").write_text(
        "name: test\nbase: {model: llama-3.1-8b, gpu: rtx-4090}\n"
        "axes:\n  method: [lora, full]\n  seq_len: [512, 65536]\n"
    )
    assert run_command(["plan", "sweep.yaml"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    rows = [line.split() for line in lines if line.endswith("   to run")]
    found = {(row[0], row[-3]) for row in rows}
    assert found == {("lora", "yes"), ("lora", "no"), ("full", "-")}
    assert lines[-2] == "estimated, nothing was run: 1 fit, 1 do not fit, 2 not estimated"


@pytest.mark.usefixtures("scheduler")
def test_a_real_card_that_is_not_there_leaves_a_plan_without_estimates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["plan", "sweep.yaml", "--gpu", "real", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert all("refusal" in job["estimate"] for job in plan["jobs"])


@pytest.mark.usefixtures("scheduler")
def test_of_very_many_jobs_some_are_shown_and_the_others_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sweep.yaml").write_text(SWEEP)
    monkeypatch.setattr("profiler.report.terminal.plan._MAX_SHOWN", 1)
    monkeypatch.setattr("profiler.estimate.plan._JOBS_AT_ONCE", 1)
    assert run_command(["plan", "sweep.yaml"]) == 0
    assert "and 3 more jobs: --json has them all" in capsys.readouterr().out
