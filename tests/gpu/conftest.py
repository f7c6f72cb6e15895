"""One test at a time on a real card, whatever else runs beside it."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """Test processes take turns, a file of tests each: what another leaves on the card would be counted."""
    with (Path(tempfile.gettempdir()) / "peakvram-tests-on-a-card").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield
