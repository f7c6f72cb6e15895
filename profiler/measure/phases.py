"""Phase by phase: what the allocator and the card held, from one phase's start to its end."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from profiler.measure.allocator import AllocatorReading, read_allocator
from profiler.measure.components import Holdings, count_components
from profiler.measure.host import HostMeter
from profiler.records.schema import PhaseName, PhasePlace, PhaseReading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from profiler.measure.device import DeviceMeter


class Recorder:
    """Reads every phase of a job and hands each reading on as soon as it is complete.

    Attributes:
        readings: of the phases so far, in order.
        current: the phase that is running; None between phases.
        holdings: what the job holds, which the job itself keeps up to date.
        host: the meter of the host's memory.
    """

    def __init__(
        self,
        *,
        meter: DeviceMeter,
        has_time: bool,
        on_reading: Callable[[PhaseReading], None],
        host: HostMeter | None = None,
    ) -> None:
        """Starts with no phase read.

        Args:
            meter: of the card's used memory.
            has_time: whether elapsed times mean anything (not on a virtual card).
            on_reading: called with each reading.
            host: of the host's memory; None where that is not looked at.
        """
        self.readings: list[PhaseReading] = []
        self.current: PhasePlace | None = None
        self.holdings = Holdings()
        self.host = host or HostMeter()
        self._meter = meter
        self._has_time = has_time
        self._on_reading = on_reading

    @contextmanager
    def phase(
        self, name: PhaseName, step: int | None = None, micro_step: int | None = None
    ) -> Iterator[None]:
        """Read one phase. If its body fails it is read at the failure, and `current` says where it was."""
        self.current = place = PhasePlace(name, step, micro_step)
        start = read_allocator()
        torch.cuda.reset_peak_memory_stats()
        self._meter.reset_peak()
        self.host.reset_peak()
        started_s = time.perf_counter()
        try:
            yield
        except Exception:
            self._add(place, start, started_s, is_complete=False)
            raise
        self._add(place, start, started_s, is_complete=True)
        self.current = None

    def _add(
        self, place: PhasePlace, start: AllocatorReading, started_s: float, *, is_complete: bool
    ) -> None:
        end = read_allocator()  # waits for the card, so the time below includes its work
        elapsed_s = time.perf_counter() - started_s
        device, host = self._meter.peak(), self.host.peak()
        reading = PhaseReading(
            name=place.phase,
            step=place.step,
            micro_step=place.micro_step,
            allocated_start_bytes=start.allocated_bytes,
            allocated_end_bytes=end.allocated_bytes,
            allocated_peak_bytes=end.allocated_peak_bytes,
            reserved_end_bytes=end.reserved_bytes,
            reserved_peak_bytes=end.reserved_peak_bytes,
            device_used_peak_bytes=device.used_bytes,
            process_used_peak_bytes=device.process_bytes,
            num_alloc_retries=end.num_alloc_retries - start.num_alloc_retries,
            num_ooms=end.num_ooms - start.num_ooms,
            elapsed_s=elapsed_s if self._has_time else None,
            is_complete=is_complete,
            components=count_components(self.holdings) if is_complete else None,
            host=host,
        )
        self.readings.append(reading)
        self._on_reading(reading)
