from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.errors import EnvironmentUnfitError
from profiler.execute.options import SweepOptions
from profiler.records.store import RecordStore
from profiler.records.study import read_notes
from tests.unit.cli.scheduler import ERROR, OOM, SWEEP, with_outcomes

if TYPE_CHECKING:
    from tests.unit.cli.scheduler import Scheduler


def test_a_sweep_runs_its_jobs_and_says_what_it_wrote(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    with_outcomes(scheduler, at_1024=OOM)
    assert run_command(["sweep", "sweep.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 ok, 2 out of memory, 0 failed; 0 were stored before",
        "Wrote 4 records to results/test/records",
    ]
    assert len(RecordStore(Path("results/test")).scan().records) == 4
    assert [(job.seq_len, job.batch_size) for job in scheduler.asked] == [
        (512, 1),
        (512, 2),
        (1024, 1),
        (1024, 2),
    ]
    assert scheduler.options == SweepOptions()


def test_a_sweep_goes_on_where_it_stopped(scheduler: Scheduler, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sweep", "sweep.yaml", "--limit", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "3 ok, 0 out of memory, 0 failed; 0 were stored before",
        "1 are left (--limit 3): the same command goes on with them",
        "Wrote 3 records to results/test/records",
    ]
    assert run_command(["sweep", "sweep.yaml"]) == 0
    assert "1 ok, 0 out of memory, 0 failed; 3 were stored before" in capsys.readouterr().out
    assert len(scheduler.asked) == 4


def test_an_interrupted_sweep_says_how_to_go_on(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler.interrupt_after = 1
    assert run_command(["sweep", "sweep.yaml"]) == 130
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "Wrote 1 records to results/test/records"
    assert "3 are left: the same command goes on with them" in captured.out
    assert captured.err.splitlines()[-2:] == [
        "error: interrupted",
        "hint: the same command goes on where this one stopped",
    ]


def test_a_failed_job_is_said_once_and_is_the_exit_code(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    with_outcomes(scheduler, at_512=ERROR)
    assert run_command(["sweep", "sweep.yaml"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("no such layer") == 1
    assert captured.err.startswith("failed: llama-3.1-8b, qlora")
    assert "2 ok, 0 out of memory, 2 failed" in captured.out


def test_a_job_that_cannot_be_run_is_said_and_counted(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler.answer = lambda _spec: EnvironmentUnfitError("needs flash-attn", hint="pip install flash-attn")
    assert run_command(["sweep", "sweep.yaml"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("needs flash-attn (pip install flash-attn)") == 1
    assert "0 ok, 0 out of memory, 0 failed, 4 could not be run" in captured.out
    assert "Wrote 0 records" in captured.out


def test_flags_reach_the_scheduler(scheduler: Scheduler) -> None:
    line = "sweep sweep.yaml --timeout 60 --fail-fast --no-prune --workers 3 --allow-busy --rerun all"
    assert run_command(line.split()) == 0
    assert scheduler.rerun == "all"
    assert scheduler.options == SweepOptions(
        timeout_s=60, fail_fast=True, prune=False, allow_busy=True, num_workers=3
    )


def test_the_card_and_any_key_can_be_set(scheduler: Scheduler) -> None:
    line = ["sweep", "sweep.yaml", "--gpu", "a40", "--set", "batch_size=8", "--set", "seq_len=[64, 128]"]
    assert run_command([*line, "--out", "there"]) == 0
    assert [(job.gpu, job.batch_size, job.seq_len) for job in scheduler.asked] == [
        ("a40", 8, 64),
        ("a40", 8, 128),
    ]
    assert len(RecordStore(Path("there")).scan().records) == 2


def test_a_study_carries_the_command_that_made_it(scheduler: Scheduler, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    line = ["sweep", str(path), "--set", "method.targets=[q, v]", "--limit", "2", "--no-prune", "--json"]
    assert run_command(line) == 0
    assert run_command(line) == 0
    assert (
        run_command(["sweep", "sweep.yaml", "--out", str(tmp_path / "results" / "test"), "--rerun", "all"])
        == 0
    )
    notes = read_notes(Path("results/test")).sweeps
    assert [note.command for note in notes] == [
        "peakvram sweep sweep.yaml --set 'method.targets=[q, v]' --no-prune",
        "peakvram sweep sweep.yaml --out results/test",
    ]
    assert notes[0].sweep.description == "Two lengths and two batches."
    assert scheduler.asked[0].method.model_dump()["targets"] == ("q", "v")


def test_a_sweep_as_json_is_all_that_is_on_stdout(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    with_outcomes(scheduler, at_512=OOM)
    assert run_command(["sweep", "sweep.yaml", "--json", "--limit", "3"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "test",
        "directory": "results/test",
        "num_jobs": 4,
        "num_stored_before": 0,
        "num_written": 3,
        "num_left": 1,
        "num_invalid": 0,
        "num_done": 1,
        "num_oom": 2,
        "num_inferred": 0,
        "num_failed": 0,
        "num_refused": 0,
        "is_interrupted": False,
        "is_machine_at_fault": False,
    }


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("", [], "error: sweep.yaml does not hold `key: value` lines"),
        (SWEEP.replace("axes", "axs"), [], "error: sweep.yaml: axs: unknown key"),
        (SWEEP.replace("llama-3.1-8b", "lama-3.1-8b"), [], "error: sweep.yaml: unknown model 'lama-3.1-8b'"),
        (SWEEP, ["--gpu", "rtx-4080x"], "error: sweep.yaml: unknown GPU 'rtx-4080x'"),
        (SWEEP, ["--rerun", "fialed"], "error: --rerun: there is no 'fialed'"),
        (SWEEP, ["--limit", "0"], "error: Invalid value for '--limit'"),
        (SWEEP, ["--workers", "x"], "error: Invalid value for '--workers'"),
        (SWEEP, ["--out", "sweep.yaml"], "error: "),
        (SWEEP + "exclude: [{steps: 3}]\n", [], "error: sweep.yaml: no job is left"),
        (
            SWEEP.replace("[512, 1024]", "[1]") + "zip: {attention_mask: [padded]}\n",
            [],
            "error: sweep.yaml: none of its combinations is a job: seq_len 1, batch_size 1, attention_",
        ),
    ],
)
def test_what_cannot_be_swept_is_one_line_and_a_hint(
    text: str, arguments: list[str], said: str, scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sweep.yaml").write_text(text)
    assert run_command(["sweep", "sweep.yaml", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert captured.err.count("\nhint: ") == 1
    assert len(captured.err.splitlines()) == 2
    assert captured.out == ""
    assert scheduler.asked == []
    assert not Path("results").exists()


def test_files_that_are_no_records_are_told_and_left_alone(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path("results/test/records")
    directory.mkdir(parents=True)
    (directory / "torn.json").write_text("{")
    assert run_command(["sweep", "sweep.yaml"]) == 0
    told = capsys.readouterr().err
    assert "skipped results/test/records/torn.json: it is cut short or not JSON" in told
    assert (directory / "torn.json").read_text() == "{"
    assert len(scheduler.asked) == 4


def test_allocator_settings_of_the_environment_are_adopted_and_told(
    scheduler: Scheduler, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    assert run_command(["sweep", "sweep.yaml"]) == 0
    assert {job.alloc_conf for job in scheduler.asked} == {"expandable_segments:True"}
    assert "adopted from PYTORCH_ALLOC_CONF" in capsys.readouterr().err


def test_allocator_settings_that_contradict_the_sweep_are_refused(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    Path("sweep.yaml").write_text(SWEEP + "zip: {alloc_conf: ['', 'max_split_size_mb:64']}\n")
    assert run_command(["sweep", "sweep.yaml"]) == 2
    assert scheduler.asked == []
