"""Whose a real card is: while a peakvram measures on it, any other has to wait or to take another one."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.hardware.catalogue import Gpu
from profiler.hardware.discovery import choose_device
from profiler.hardware.idle import in_use
from profiler.process.locks import Locks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.hardware.discovery import DeviceChoice
    from profiler.hardware.nvml import RealGpu

LEASE_VARIABLE = "PEAKVRAM_LEASE"
"""The UUID of the card that a followed command runs on: a peakvram within it uses that card as its part."""


class Leases(Locks):
    """The cards that this process keeps other peakvrams of this user off, until the block ends."""

    def __init__(self) -> None:
        """None yet."""
        super().__init__(Path(tempfile.gettempdir()) / f"peakvram-{os.getuid()}-cards", is_private=True)

    def lease(self, gpu: RealGpu) -> bool:
        """Take a card, if it is not taken already; False if another peakvram has it."""
        is_ours = gpu.uuid == os.environ.get(LEASE_VARIABLE) or self.holds(gpu.uuid)
        return is_ours or self.take(gpu.uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedDevice:
    """A device that no other peakvram measures on.

    Attributes:
        choice: the device.
        notes: what a result is to say besides: that another one does, where that was allowed.
    """

    choice: DeviceChoice
    notes: tuple[str, ...] = ()


@contextmanager
def lease_device(
    request: str, *, gpu_memory_bytes: int | None = None, allow_busy: bool
) -> Iterator[LeasedDevice]:
    """Choose a device, and keep other peakvrams off it for a block; a virtual one is nobody else's anyway.

    Args:
        request: as `choose_device` takes it; of several real cards one is taken that nobody has.
        gpu_memory_bytes: the capacity of a virtual card, instead of its own.
        allow_busy: use a real card that another peakvram has.

    Raises:
        ConfigError: the request names no card.
        EnvironmentUnfitError: there is no such card, or another peakvram has it.
    """
    with Leases() as leases:
        choice = choose_device(request, gpu_memory_bytes=gpu_memory_bytes, take=leases.lease)
        notes: tuple[str, ...] = ()
        if not isinstance(choice.gpu, Gpu) and not leases.lease(choice.gpu):
            holder = leases.holder(choice.gpu.uuid)
            other = "another peakvram" if holder is None else f"another peakvram (pid {holder})"
            if not allow_busy:
                raise in_use(choice.gpu, f"{other} measures on it")
            notes = (f"{other} measured on the card",)
        yield LeasedDevice(choice=choice, notes=notes)
