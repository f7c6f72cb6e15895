"""Machines to run scripts on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from profiler.virtual.state import Quirk, VirtualDevice, create_machine, library_path
from tests.unit.hardware.machines import Bench, Play, a_device

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Makes a machine with these devices (one RTX 4090 if none are given) and quirks."""
    if not library_path().is_file():
        pytest.skip("the virtual GPU's library is not built")

    def make(*devices: VirtualDevice, quirks: Quirk = Quirk(0), **settings: Any) -> Bench:  # noqa: B008
        directory = tmp_path / f"machine-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        listed = devices or (a_device(),)
        return Bench(create_machine(directory, listed, library=library_path(), quirks=quirks, **settings))

    return make
