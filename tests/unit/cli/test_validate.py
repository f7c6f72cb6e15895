from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.evidence.measurements import validation
from profiler.evidence.measurements.mapping import load_mapping
from profiler.evidence.measurements.published import load_measurements, published_dir
from tests.builders import ROOT

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

RESULTS = ROOT / "results" / "validation"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[tuple[JobSpec, ...], Path, Path]]:
    """Runs in an empty directory that has the published records, with no job ever started."""
    calls: list[tuple[tuple[JobSpec, ...], Path, Path]] = []

    def run_batch(jobs: tuple[JobSpec, ...], out: Path, *, python: Path, directory: Path) -> None:
        assert out == Path("study")
        calls.append((jobs, python, directory))

    monkeypatch.setattr(validation, "run_batch", run_batch)
    monkeypatch.chdir(tmp_path)
    Path("study").mkdir()
    shutil.copy(RESULTS / "records.jsonl.gz", "study")
    return calls


def test_all_mapped_rows_are_run_with_the_libraries_installed_here(
    asked: list[tuple[tuple[JobSpec, ...], Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["validate", "--out", "study"]) == 0
    ((jobs, python, directory),) = asked
    mapped = load_mapping(load_measurements())
    assert set(jobs) == {row.job for row in mapped.rows}
    assert len(jobs) == len(set(jobs))
    assert (python, directory) == (Path(sys.executable), published_dir())
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "Wrote study/README.md",
        "Wrote study/validation.csv",
        "Wrote study/published-and-virtual.png",
        "Wrote study/published-and-virtual.svg",
    ]


def test_rows_and_sources_choose_what_is_run_but_not_what_is_shown(
    asked: list[tuple[tuple[JobSpec, ...], Path, Path]],
) -> None:
    assert run_command(["validate", "--out", "study", "--rows", "fms-007,fms-008", "--rows", "fms-013"]) == 0
    ((jobs, _, _),) = asked
    assert [job.method.kind for job in jobs] == ["full", "lora"]
    assert "swift-001" in Path("study/README.md").read_text(encoding="utf-8")
    asked.clear()
    assert run_command(["validate", "--out", "study", "--source", "swift"]) == 0
    ((jobs, _, _),) = asked
    assert all("as-qwen2" in job.model for job in jobs)


def test_nothing_is_run_where_that_is_asked(asked: list[tuple[tuple[JobSpec, ...], Path, Path]]) -> None:
    assert run_command(["validate", "--out", "study", "--no-run"]) == 0
    assert asked == []


def test_an_environment_runs_only_the_rows_that_ask_for_it(
    asked: list[tuple[tuple[JobSpec, ...], Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.evidence.measurements.validation.check_python", lambda *_: None)
    command = ["validate", "--out", "study", "--rows", "fms-007,swift-001", "--env", "fms-transformers-4.48"]
    assert run_command([*command, "--python", "old/bin/python"]) == 0
    here, then = asked
    assert len(here[0]) == 2
    assert [job.model for job in then[0]] == ["./models/mistral-7b-v0.1-fms"]
    assert then[1] == Path.cwd() / "old/bin/python"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "fms-0007"], "there is no row 'fms-0007'"),
        (["--rows", "qwen-001"], "row qwen-001 has no job: What was read is not stated"),
        (["--source", "fmz"], "there is no source 'fmz'"),
        (["--python", "python3"], "--python goes with one --env"),
        (["--env", "fms-transformers-4.84"], "cannot read the environment"),
        (["--rows", "swift-001", "--env", "fms-transformers-4.48"], "none of the rows asks for"),
    ],
)
def test_wrong_flags_are_refused_before_anything_runs(
    arguments: list[str],
    message: str,
    asked: list[tuple[tuple[JobSpec, ...], Path, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["validate", "--out", "study", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert asked == []


def test_a_study_without_records_shows_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["validate", "--no-run", "--out", "study"]) == 2
    assert "there is no record in study" in capsys.readouterr().err
    assert not Path("study").exists()


def test_the_published_records_agree_with_the_published_table(
    asked: list[tuple[tuple[JobSpec, ...], Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["validate", "--out", "study", "--no-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["row"]: row for row in told["rows"]}
    table = (RESULTS / "README.md").read_text(encoding="utf-8")
    own = [row for row in rows.values() if row["own_virtual_bytes"] is not None]
    assert len(own) >= 39
    assert all(f"{row['own_virtual_bytes']:,}" in table for row in own)
    assert asked == []
