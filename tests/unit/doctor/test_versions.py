from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from profiler.doctor.checks import Status
from profiler.doctor.versions import check_versions
from profiler.process import tested

if TYPE_CHECKING:
    import pytest


def say_tested(monkeypatch: pytest.MonkeyPatch, *, python: str, torch: str) -> None:
    monkeypatch.setattr(tested, "_tested", lambda: {"python": ("3.1", python), "torch": ("2.4.1", torch)})


def test_tested_versions_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    say_tested(monkeypatch, python=platform.python_version().rpartition(".")[0], torch="999")
    assert check_versions().status is Status.OK


def test_a_newer_library_and_a_newer_python_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    say_tested(monkeypatch, python="3.8", torch="2.4.0")
    check = check_versions()
    assert check.status is Status.WARN
    python, torch = check.detail.split("; ")
    assert python == f"python {platform.python_version()} is newer than any that was tested (3.1 to 3.8)"
    assert torch.startswith("torch ")
    assert torch.endswith(" is newer than any that was tested (2.4.1 to 2.4.0)")
    assert "docs/versions.md" in check.hint
