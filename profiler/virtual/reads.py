"""Which reads of a virtual device's memory could not be answered, by the line that asked."""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from profiler.resources import PACKAGE, PACKAGE_ROOT

if TYPE_CHECKING:
    from types import FrameType

DATA_TYPES = frozenset({torch.uint8, torch.int8})
"""Integers that are data as a rule, such as packed weights and pixels: no size or branch follows of them."""

_PACKAGE = str(PACKAGE)
_OWN = (str(PACKAGE_ROOT / "profiler/virtual"), str(PACKAGE_ROOT / "profiler/follow"))
_INSTALLED = tuple({path for name, path in sysconfig.get_paths().items() if name in ("stdlib", "scripts")})
"""Where Python's own library is, and the commands that came with others: nobody's script lies there."""
_LIBRARIES = ("/site-packages/", "/dist-packages/")


@dataclass(slots=True)
class UnknownReads:
    """Reads by the host whose answer the virtual device could not know, by the line that asked.

    Attributes:
        sites: all of them.
        decisions: those that could have decided a size or a branch, with the line of the script behind them.
        others: those of floating-point values and of data, with the same.
    """

    sites: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, operation: str, *, decides: bool) -> None:
        """Count one read, at the nearest line outside torch and the virtual device.

        Args:
            operation: what read.
            decides: whether a size or a branch could follow from the answer.
        """
        site = f"{caller()} ({operation})"
        self.sites[site] += 1
        script = script_line()
        is_told = script is None or site.startswith(f"{script} ")
        kind = self.decisions if decides else self.others
        kind[site if is_told else f"{site}, from {script}"] += 1

    def clear(self) -> None:
        """Start anew."""
        self.sites.clear()
        self.decisions.clear()
        self.others.clear()

    @property
    def total(self) -> int:
        """How many there were."""
        return self.sites.total()


def can_decide(dtype: torch.dtype) -> bool:
    """Whether a program may go by a value of this type: by flags and counts, not by losses and weights."""
    return not (dtype.is_floating_point or dtype.is_complex or dtype in DATA_TYPES)


def line_that_asked() -> str:
    """The nearest line outside torch; where a library's, the line of the script behind it is added."""
    site, script = caller(), script_line()
    return site if script is None or script == site else f"{site}, from {script}"


def asking_frame() -> FrameType | None:
    """The frame that reads: the nearest that neither follows values nor stands before torch's functions."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename.startswith(_OWN) or frame.f_code.co_name == "__torch_function__"
    ):
        frame = frame.f_back
    return frame


def accepting_answer(frame: FrameType | None) -> bool | None:
    """The answer with which torch takes what it has drawn at random; None where it asks for something else.

    `torch.distributions` asks whether all is well, `torch.nn.init` whether anything lies out of bounds.
    """
    name = "" if frame is None else frame.f_code.co_filename
    if "/torch/distributions/" in name:
        return True
    return False if name.endswith("/torch/nn/init.py") else None


def caller() -> str:
    """`file:line` of the nearest frame that belongs neither to torch nor to what follows it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and not name.startswith((*_OWN, "<")):
            return _place(frame)
        frame = frame.f_back
    return "unknown"


def script_line() -> str | None:
    """`file:line` of the nearest frame that is of no installed library; None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        is_installed = name.startswith(_INSTALLED) or any(part in name for part in _LIBRARIES)
        if not (is_installed or name.startswith((_PACKAGE, "<"))):
            return _place(frame)
        frame = frame.f_back
    return None


def _place(frame: FrameType) -> str:
    parts = [part for part in Path(frame.f_code.co_filename).parts if part != "/"]
    return f"{'/'.join(parts[-3:])}:{frame.f_lineno}"
