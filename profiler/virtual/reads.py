"""Which reads of a virtual device's memory could not be answered, by the line that asked."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


@dataclass(slots=True)
class UnknownReads:
    """Reads by the host whose answer the virtual device could not know, by the line that asked."""

    sites: Counter[str] = field(default_factory=Counter)

    def add(self, operation: str) -> None:
        """Count one read, at the nearest line outside torch and the virtual device."""
        self.sites[f"{_caller()} ({operation})"] += 1

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.sites.values())


def _caller() -> str:
    """`file:line` of the nearest frame that belongs neither to torch nor to the virtual device."""
    own = str(Path(__file__).parent)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and not name.startswith((own, "<")):
            return f"{'/'.join(Path(name).parts[-3:])}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"
