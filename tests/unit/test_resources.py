from __future__ import annotations

from typing import TYPE_CHECKING

from profiler import resources
from profiler.resources import configs_dir

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_repositorys_configs_are_found() -> None:
    assert list((configs_dir() / "gpus").glob("*.yaml"))
    assert list((configs_dir() / "models").glob("*.json"))


def test_configs_inside_the_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiler" / "configs").mkdir(parents=True)
    (tmp_path / "configs").mkdir()
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "profiler")
    assert configs_dir() == tmp_path / "profiler" / "configs"
