from __future__ import annotations

import pytest

from profiler.process import tested
from profiler.process.tested import newer_than_tested, release

TESTED = {"python": ("3.11", "3.13"), "torch": ("2.4.1", "2.14.1"), "transformers": ("4.48", "5.24.0")}


@pytest.fixture(autouse=True)
def _some_were_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "_tested", lambda: TESTED)


def test_what_is_newer_than_all_that_was_tested_is_named_with_what_was() -> None:
    told = newer_than_tested({"torch": "2.15.0+cu130", "transformers": "5.24.0", "peft": "99"})
    assert list(told) == ["torch 2.15.0+cu130 is newer than any that was tested (2.4.1 to 2.14.1)"]


@pytest.mark.parametrize("torch", ["2.14.1", "2.14.1+cu130", "2.9.0", "2.4.1", "2.1", None, "", "unknown"])
def test_nothing_is_said_of_what_was_tested_or_is_older_or_missing(torch: str | None) -> None:
    assert list(newer_than_tested({"torch": torch})) == []


@pytest.mark.parametrize("torch", ["2.14.2", "2.15.0a0+git1234", "2.100", "3", "10.0"])
def test_a_later_release_or_what_leads_to_one_is_newer(torch: str) -> None:
    assert len(list(newer_than_tested({"torch": torch}))) == 1


@pytest.mark.parametrize(("python", "is_newer"), [("3.11.7", False), ("3.13.12", False), ("3.14.0", True)])
def test_any_release_of_a_tested_python_is_tested(python: str, is_newer: bool) -> None:
    assert bool(list(newer_than_tested({"python": python}))) is is_newer


def test_numbers_of_a_version_are_compared_as_numbers() -> None:
    assert release("2.9.1") < release("2.14.0.dev20261101+cu130") == (2, 14, 0)
