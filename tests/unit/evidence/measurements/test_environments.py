from __future__ import annotations

import sys
from pathlib import Path

import pytest

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.evidence.measurements.environments import (
    LibrarySet,
    check_python,
    find_library_set,
    public_version,
)
from tests.builders import an_environment


def test_a_shipped_set_goes_by_its_name() -> None:
    found = find_library_set("fms-transformers-4.48")
    assert found.versions == {
        "torch": "2.4.1",
        "transformers": "4.48.1",
        "peft": "0.13.2",
        "bitsandbytes": "0.43.3",
        "accelerate": "1.0.1",
    }


def test_a_file_of_one_s_own_goes_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\ntorch==2.5.0\nnumpy<2\n", encoding="utf-8")
    assert find_library_set(str(path)) == LibrarySet(name="mine", path=path, versions={"torch": "2.5.0"})


def test_a_misspelt_set_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        find_library_set("fms-transformers-4.84")
    assert "fms-transformers-4.48" in caught.value.hint


def test_a_file_without_torch_is_no_set(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("transformers==4.48.1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="pins no torch"):
        find_library_set(str(path))


def test_a_record_matches_whatever_its_torch_was_built_for() -> None:
    wanted = LibrarySet(name="old", path=Path(), versions={"torch": "2.4.1", "peft": "0.13.2"})
    assert wanted.matches(an_environment(torch="2.4.1+cu121", peft="0.13.2"))
    assert not wanted.matches(an_environment(torch="2.4.1+cu121", peft="0.14.0"))
    assert not wanted.matches(None)


def test_a_missing_library_has_an_empty_version() -> None:
    assert public_version(None) == ""


def test_a_python_with_other_versions_is_refused_before_anything_runs() -> None:
    wanted = LibrarySet(name="old", path=Path("old.txt"), versions={"pydantic": "1.0.0"})
    with pytest.raises(EnvironmentUnfitError, match=r"has pydantic 2\..*, not 1.0.0") as caught:
        check_python(wanted, Path(sys.executable))
    assert "pip install -r old.txt" in caught.value.hint


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    wanted = LibrarySet(name="old", path=Path("old.txt"), versions={"torch": "2.4.1"})
    with pytest.raises(EnvironmentUnfitError, match="cannot be asked for its versions"):
        check_python(wanted, tmp_path / "python")
