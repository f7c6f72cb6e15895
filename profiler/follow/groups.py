"""Refusing a command that needs several cards, or trains with several processes: exec follows one card."""

from __future__ import annotations

import os
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import torch.distributed

from profiler.virtual.torch_private import DEVICE_INDEX, NEW_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_REFUSED_EXIT_CODE = 3
_NEEDS_NO_CARD = {"gloo", "mpi", "fake"}
"""Backends of which several processes do not need several cards; `fake` has no others."""


def refuse_several(reports: Path) -> None:
    """Refuse now where a launcher has started several processes, later where the script itself does.

    Args:
        reports: the directory that is told why.

    Raises:
        SystemExit: this process is one of several.
    """
    if (world_size := int(os.environ.get("WORLD_SIZE") or 1)) > 1:
        _refuse(reports, f"trains with {world_size} processes (WORLD_SIZE={world_size})")
    _watch_groups(reports)
    _watch_set_device(reports)


def _watch_groups(reports: Path) -> None:
    if not torch.distributed.is_available():
        return
    make: Callable[..., Any] = NEW_GROUP.find()

    def make_of_one(size: int, rank: int, ranks: list[int], backend: str, *rest: Any, **options: Any) -> Any:
        if size > 1 and str(backend).lower() not in _NEEDS_NO_CARD:
            _refuse(reports, f"trains with {size} processes (torch.distributed.init_process_group)")
        return make(size, rank, ranks, backend, *rest, **options)

    NEW_GROUP.replace(make_of_one)


def _watch_set_device(reports: Path) -> None:
    """The ranks of a script often take their cards before they meet, and then never do."""
    original = torch.cuda.set_device

    @wraps(original)
    def set_device(device: Any) -> None:
        try:
            original(device)
        except RuntimeError:
            if (index := DEVICE_INDEX.find()(device)) < torch.cuda.device_count():
                raise
            _refuse(reports, f"asks for a second card (torch.cuda.set_device({index}))")

    torch.cuda.set_device = set_device


def _refuse(reports: Path, why: str) -> NoReturn:
    (reports / "refusal").write_text(f"the command {why}")
    raise SystemExit(_REFUSED_EXIT_CODE)
