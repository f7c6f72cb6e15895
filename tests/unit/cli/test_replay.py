from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.units import MIB
from tests.unit.allocator.snapshots import write_snapshot

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def snapshot(tmp_path: Path) -> str:
    return str(write_snapshot(tmp_path / "snapshot.pickle"))


def test_what_each_setting_would_have_reserved_is_shown(
    snapshot: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["replay", snapshot]) == 0
    text = capsys.readouterr().out
    assert "3 events, recorded under torch's defaults" in text
    assert "expandable_segments:True reserves least: 30.00 MiB less than torch's defaults" in text
    assert "Where most is reserved" in text
    assert "fits" not in text  # no card was asked about


def test_a_card_says_whether_it_would_have_fitted(snapshot: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["replay", snapshot, "--gpu-memory", "30MiB"]) == 0
    text = capsys.readouterr().out
    assert "out of memory at event 3, for 40.00 MiB" in text
    assert "does not fit into 30.00 MiB under any of these settings" in text
    assert run_command(["replay", snapshot, "--gpu", "rtx-4090"]) == 0
    assert "fits" in capsys.readouterr().out


def test_json_has_what_the_terminal_shows(snapshot: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--alloc-conf", "max_split_size_mb:64", "--gpu", "rtx-4090", "--gpu-memory", "1GiB", "--json"]
    assert run_command(["replay", snapshot, *flags]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [one["alloc_conf"] for one in tree["tried"]] == ["", "max_split_size_mb:64"]
    assert tree["recorded"]["reserved_peak_bytes"] == 70 * MIB
    assert tree["card"]["free_bytes"] == 1024 * MIB
    assert tree["fragments"][0]["free_bytes"] == 30 * MIB
    assert tree["verdict"] == "none of these settings reserves less than torch's defaults"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--alloc-conf", "no_such:1"], "no setting 'no_such'"),
        (["--alloc-conf", "large_segment_size_mb:32", "--torch", "2.4.1"], "no setting"),
        (["--gpu", "rtx-9999"], "unknown GPU"),
        (["--gpu-memory", "much"], "--gpu-memory: 'much' is not a size"),
        (["--device", "5"], "no events of device 5"),
    ],
)
def test_what_cannot_be_replayed_is_a_usage_error(
    snapshot: str, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert run_command(["replay", snapshot, *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["replay", str(tmp_path / "none.pickle")]) != 0
    assert "none.pickle" in capsys.readouterr().err
