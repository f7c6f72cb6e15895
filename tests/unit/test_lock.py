"""The locked versions, the bounds and the data of what was tested say one thing."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.builders import ROOT

LOCK = runpy.run_path(str(ROOT / "scripts" / "lock.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("text", LOCK["requirements"](PROJECT))
def test_what_is_asked_for_is_locked_within_its_bounds(text: str) -> None:
    requirement = Requirement(text)
    assert requirement.specifier.contains(locked()[LOCK["normal_name"](requirement.name)])


def test_the_lock_is_of_names_and_versions_alone() -> None:
    for name, version in locked().items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version)


def test_what_the_package_says_was_tested_is_the_lower_bound_and_the_lock() -> None:
    said = json.loads((ROOT / "configs" / "tested.json").read_text())
    assert said == LOCK["tested"](PROJECT, locked())
    assert said["python"]["oldest"] == "3.11"


def test_the_oldest_set_is_every_lower_bound_and_what_scripts_train_with() -> None:
    oldest = LOCK["lower_bounds"](PROJECT)
    assert {"torch", "numpy", "typer", "datasets", "trl"} <= oldest.keys()
    assert not {"pytest", "hatchling", "ziglang"} & oldest.keys()
    for requirement in map(Requirement, PROJECT["project"]["dependencies"]):
        assert requirement.specifier.contains(oldest[requirement.name])


def test_a_dependency_without_a_lower_bound_is_named() -> None:
    project = {
        "project": {"dependencies": ["torch"], "optional-dependencies": {}},
        "build-system": {"requires": []},
    }
    with pytest.raises(AssertionError, match="torch has no lower bound"):
        LOCK["lower_bounds"](project)
