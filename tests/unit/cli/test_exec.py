from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion


def test_help(
    snapshot: SnapshotAssertion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run_command(["exec", "--help"]) == 0
    assert capsys.readouterr().out == snapshot


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: Missing argument"),
        (["--gpu", "rtx-4080x", "--", "true"], "error: unknown GPU 'rtx-4080x'"),
        (["--gpu", "real", "--gpu-memory", "8GiB", "--", "true"], "error: a real GPU's memory cannot be set"),
        (["--gpu-memory", "much", "--", "true"], "error: --gpu-memory: 'much' is not a size"),
        (["--routing", "random", "--", "true"], "error: --routing: no way to route is called 'random'"),
        (["--timeout", "0", "--", "true"], "error: --timeout: '0' is no number of seconds above 0"),
        (["--stop-after", "0", "--", "true"], "error: Invalid value for '--stop-after'"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["exec", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(said)
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


def test_a_result_that_cannot_be_written_is_found_out_before_the_command_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out, trace = tmp_path / "file" / "result.json", tmp_path / "trace"
    arguments = ["exec", "--gpu", "rtx-4090", "--out", str(out), "--", "touch", str(trace)]
    assert run_command(arguments) == 2
    assert "is not a directory" in capsys.readouterr().err
    arguments[arguments.index(str(out))] = str(tmp_path)
    assert run_command(arguments) == 2
    assert f"--out: {tmp_path} is a directory" in capsys.readouterr().err
    assert not trace.exists()
