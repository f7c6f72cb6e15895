from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.records.store import RecordStore
from profiler.units import GIB
from tests.unit.records.test_compare import a_run_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The second takes 1 % more."""
    monkeypatch.chdir(tmp_path)
    for name, size in (("before", 100 * GIB), ("after", 101 * GIB)):
        RecordStore(tmp_path / name).put(a_run_of(size))
    return "before", "after"


@pytest.mark.parametrize(("limit", "code"), [("2%", 0), ("0.5 %", 1), ("1.0%", 0), ("0%", 1)])
def test_the_exit_code_says_whether_something_changed_too_much(
    studies: tuple[str, str], limit: str, code: int
) -> None:
    assert run_command(["compare", *studies, "--fail-over", limit]) == code


def test_without_a_limit_a_change_is_only_shown(
    studies: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["compare", *studies]) == 0
    assert "+1.00 %" in capsys.readouterr().out


def test_the_figure_can_be_chosen(studies: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", *studies, "--fail-over", "0.5%", "--figure", "reserved", "--json"]) == 1
    tree = json.loads(capsys.readouterr().out)
    assert (tree["figure"], tree["limit"], tree["num_over"]) == ("reserved", 0.005, 1)


def test_markdown_is_all_that_is_on_stdout(
    studies: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["compare", *studies, "--markdown"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# What changed\n")
    assert captured.err == ""


@pytest.mark.parametrize("limit", ["2", "two", "-1%", "2%%", ""])
def test_what_is_no_percentage_is_refused(
    studies: tuple[str, str], limit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["compare", *studies, "--fail-over", limit]) == 2
    assert "is no percentage" in capsys.readouterr().err


def test_a_study_that_is_not_there_is_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", "nowhere", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no record in nowhere\nhint: `peakvram sweep` puts them there\n"
    )
