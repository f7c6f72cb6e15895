from __future__ import annotations

import pytest

from tests import versions
from tests.versions import since


@pytest.mark.parametrize(
    ("installed", "is_since"),
    [("5.23.0", False), ("5.24.0", True), ("5.24", True), ("5.24.0.dev0", True), ("10.1", True)],
)
def test_an_expectation_changes_with_the_version_that_it_names(
    installed: str, is_since: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "version", {"transformers": installed, "torch": "2.14.1+cu130"}.__getitem__)
    assert since(transformers="5.24") is is_since
    assert since(transformers="5.24", torch="2.14") is is_since
    assert not since(transformers="5", torch="2.15")


def test_a_library_that_is_not_installed_is_older_than_all() -> None:
    assert not since(**{"a-library-of-nobody": "0"})
