from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.errors import EnvironmentUnfitError
from profiler.hardware.nvml import VIRTUAL_HINT
from profiler.jobs.expansion import expand
from profiler.jobs.sweep import load_sweep
from profiler.process import leases
from profiler.resources import configs_dir

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a real card."""

    def refuse(_gpu: str, **_options: object) -> None:
        raise EnvironmentUnfitError("no NVIDIA driver", hint=f"install one; {VIRTUAL_HINT}")

    monkeypatch.setattr(leases, "choose_device", refuse)
    monkeypatch.chdir(tmp_path)


def test_help(
    snapshot: SnapshotAssertion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run_command(["verify", "--help"]) == 0
    assert capsys.readouterr().out == snapshot


@pytest.mark.usefixtures("no_card")
def test_without_a_real_card_there_is_nothing_to_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["verify"]) == 3
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "error: no NVIDIA driver",
        "hint: install one; a virtual card alone has nothing to be held against",
    ]
    assert captured.out == ""
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("no_card")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpu", "rtx-4090"], "error: 'rtx-4090' is no real card, and a virtual one has no twin"),
        (["smok"], "error: there is no sweep 'smok'"),
        (["--set", "seq_len=0"], "error: --set seq_len"),
        (["--timeout", "0"], "error: --timeout: '0' is no number of seconds above 0"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["verify", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(said)
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


def test_the_shipped_list_touches_every_method_and_suits_a_small_card() -> None:
    expansion = expand(load_sweep(configs_dir() / "sweeps" / "verify.yaml"))
    assert expansion.invalid == ()
    assert {job.method.kind for job in expansion.jobs} == {"full", "lora", "qlora", "int8-lora"}
    assert {job.model for job in expansion.jobs} == {"smollm2-135m", "llama-3.2-1b"}
    assert {job.gpu for job in expansion.jobs} == {"auto"}
