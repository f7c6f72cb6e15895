from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from tests.studies import a_study

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    a_study(Path("my-study"))
    return "my-study"


@pytest.mark.slow
def test_a_report_says_what_it_wrote(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", study]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "Wrote my-study/report.html"
    assert all(Path(line.removeprefix("Wrote ")).is_file() for line in lines)
    assert captured.err == ""


def test_the_card_and_the_place_can_be_chosen(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", study, "--out", "elsewhere", "--gpu", "h100-80gb", "--json"]) == 0
    paths = json.loads(capsys.readouterr().out)
    assert paths[0] == "elsewhere/report.html"
    assert '"gpu":"h100-80gb"' in Path(paths[0]).read_text(encoding="utf-8")


def test_a_file_that_is_no_record_is_named_and_skipped(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(study, "records", "note.json").write_text("{}")
    assert run_command(["report", study, "--out", "elsewhere"]) == 0
    assert "skipped my-study/records/note.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no record in nowhere"),
        (["my-study", "--gpu", "rtx-4080x"], "unknown GPU 'rtx-4080x'"),
        (["my-study", "--factors", "nothing.json"], "cannot read nothing.json"),
    ],
)
def test_what_cannot_be_reported_is_one_line_and_a_hint(
    study: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Path(study).is_dir()
    assert run_command(["report", *arguments]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {words}")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("command", ["report", "compare"])
def test_the_help_of_a_command(
    command: str,
    snapshot: SnapshotAssertion,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run_command([command, "--help"]) == 0
    assert capsys.readouterr().out == snapshot
