"""Machines with virtual cards, and processes that run functions on them."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from profiler.virtual.state import library_path
from tests.virtual.harness import FreshMachines, WarmMachines

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _cards_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leases of cards are temporary files, and machines of other tests have the same cards."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patched.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session")
def virtual_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmMachines]:
    """Runs a function on a card in a process that has everything imported."""
    _need_the_library()
    with WarmMachines(tmp_path_factory.mktemp("warm")) as machines:
        yield machines


@pytest.fixture(scope="session")
def fresh_gpu(tmp_path_factory: pytest.TempPathFactory) -> FreshMachines:
    """Runs a function on a card in a process of its own."""
    _need_the_library()
    return FreshMachines(tmp_path_factory.mktemp("fresh"))


def _need_the_library() -> None:
    if not library_path().is_file():
        pytest.skip("the virtual GPU's library is not built: python -m profiler.virtual.build")
