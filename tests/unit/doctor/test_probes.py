"""What the doctor says of the inside of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.doctor import probes
from profiler.doctor.checks import Status
from profiler.doctor.probes import probe_torch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_torch_that_has_all_is_fit() -> None:
    assert probe_torch().status is Status.OK


def test_a_name_that_torch_has_lost_is_named_with_its_purpose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import torch.cuda\ndel torch.cuda._is_in_bad_fork\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = probe_torch()
    assert check.status is Status.FAIL
    assert "has lost torch.cuda._is_in_bad_fork (whether jobs can be forked from a process)" in check.detail
    assert "2.14.1" in check.hint


def test_a_torch_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libnothing.so is not there')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = probe_torch()
    assert check.status is Status.FAIL
    assert "libnothing.so is not there" in check.detail


def test_without_torch_its_names_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "find_torch_build", lambda: None)
    assert probe_torch().detail == "not looked up: torch itself must be mended first"
