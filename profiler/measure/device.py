"""What the whole card holds: exact on a virtual card, sampled through NVML on a real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.hardware.sampler import UsedMemorySampler
    from profiler.virtual.state import StateLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePeak:
    """The highest figures of a span, in bytes; None where the driver gives none.

    Attributes:
        used_bytes: of the whole card, other processes included.
        process_bytes: of this process alone: its CUDA context and what it reserved.
    """

    used_bytes: int | None = None
    process_bytes: int | None = None


class DeviceMeter:
    """The card's used memory, and its peak since the last reset; not known where the driver does not tell."""

    def reset_peak(self) -> None:
        """Begin a new span."""

    def peak(self) -> DevicePeak:
        """The highest figures of the span so far."""
        return DevicePeak()

    @property
    def problem(self) -> str:
        """Why some figures are missing, where it was not to be expected; else empty."""
        return ""


class ExactMeter(DeviceMeter):
    """A virtual card's own counters: every allocation is seen, so the peak is exact."""

    def __init__(self, state: StateLayout) -> None:
        """Reads the first device of the machine's live state; the machine is this process's own."""
        self._device = state.devices[0]

    def reset_peak(self) -> None:
        """Begin a new span."""
        self._device.used_peak_bytes = self._device.used_bytes

    def peak(self) -> DevicePeak:
        """The highest figures of the span so far."""
        used_bytes = int(self._device.used_peak_bytes)
        return DevicePeak(used_bytes=used_bytes, process_bytes=used_bytes - int(self._device.other_bytes))


class SampledMeter(DeviceMeter):
    """A real card's NVML figures, sampled in the background and once more at the end of each span."""

    def __init__(self, sampler: UsedMemorySampler) -> None:
        """Reads from a sampler that runs."""
        self._sampler = sampler

    def reset_peak(self) -> None:
        """Begin a new span."""
        self._sampler.reset_peak()

    def peak(self) -> DevicePeak:
        """The highest samples of the span, one taken now included."""
        self._sampler.sample()
        return DevicePeak(used_bytes=self._sampler.peak_bytes, process_bytes=self._sampler.process_peak_bytes)

    @property
    def problem(self) -> str:
        """What samples failed of, if any did."""
        return self._sampler.problem or ""
