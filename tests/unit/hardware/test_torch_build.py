"""What is told of torch without importing it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from profiler.errors import EnvironmentUnfitError
from profiler.hardware.torch_build import TorchBuild, check_driver, find_torch_build

if TYPE_CHECKING:
    from pathlib import Path


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version_module: str) -> None:
    """Puts a torch with this `version.py`, which must not be imported, first on the path."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('torch was imported')\n", encoding="utf-8")
    (package / "version.py").write_text(version_module, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize(
    ("version_module", "build", "cuda_version"),
    [
        ("__version__ = '2.14.1+cu130'\ncuda: str | None = '13.0'\n", ("2.14.1+cu130", "13.0"), 13000),
        ("__version__ = '2.4.1+cu121'\ncuda = '12.1'\n", ("2.4.1+cu121", "12.1"), 12010),
        ("__version__ = '2.14.1+cpu'\ncuda: str | None = None\n", ("2.14.1+cpu", None), None),
        ("import os\nhip = None\n", ("unknown", None), None),
    ],
)
def test_the_version_file_is_read_not_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version_module: str,
    build: tuple[str, str | None],
    cuda_version: int | None,
) -> None:
    install(tmp_path, monkeypatch, version_module)
    found = find_torch_build()
    assert found is not None
    assert (found.version, found.cuda) == build
    assert found.cuda_version == cuda_version


@pytest.mark.parametrize(
    ("cuda", "driver_cuda_version", "is_enough"),
    [
        ("13.0", 13000, True),
        ("13.2", 13000, True),
        ("13.0", 14010, True),
        ("12.8", 12000, True),
        ("12.1", 13000, True),
        ("13.0", 12090, False),
        ("12.1", 11080, False),
    ],
)
def test_a_driver_runs_the_cuda_of_its_major_version_and_older(
    cuda: str, driver_cuda_version: int, is_enough: bool
) -> None:
    build = TorchBuild(version="2.14.1", cuda=cuda)
    if is_enough:
        check_driver(build, driver="550.54.15", driver_cuda_version=driver_cuda_version)
        return
    with pytest.raises(EnvironmentUnfitError, match=r"550\.54\.15 is too old") as caught:
        check_driver(build, driver="550.54.15", driver_cuda_version=driver_cuda_version)
    assert f"built for CUDA {driver_cuda_version // 1000}" in caught.value.hint


def test_a_torch_without_cuda_and_a_missing_torch_are_told_apart() -> None:
    with pytest.raises(EnvironmentUnfitError, match="built without CUDA"):
        check_driver(TorchBuild(version="2.14.1+cpu", cuda=None), driver="580", driver_cuda_version=13000)
    with pytest.raises(EnvironmentUnfitError, match="not installed"):
        check_driver(None, driver="580", driver_cuda_version=13000)
