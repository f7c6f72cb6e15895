"""What the whole card holds: exact on a virtual card, sampled through NVML on a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from profiler.hardware.sampler import UsedMemorySampler
    from profiler.virtual.state import StateLayout


class DeviceMeter(Protocol):
    """The card's used memory, and its peak since the last reset. Bytes; None where the driver gives none."""

    def reset_peak(self) -> None:
        """Begin a new span."""

    def peak_bytes(self) -> int | None:
        """The highest figure of the span so far."""


class ExactMeter:
    """A virtual card's own counters: every allocation is seen, so the peak is exact."""

    def __init__(self, state: StateLayout) -> None:
        """Reads the first device of the machine's live state."""
        self._device = state.devices[0]

    def reset_peak(self) -> None:
        """Begin a new span."""
        self._device.used_peak_bytes = self._device.used_bytes

    def peak_bytes(self) -> int | None:
        """The highest figure of the span so far."""
        return int(self._device.used_peak_bytes)


class SampledMeter:
    """A real card's NVML figure, sampled in the background and once more at the end of each span."""

    def __init__(self, sampler: UsedMemorySampler) -> None:
        """Reads from a sampler that runs."""
        self._sampler = sampler

    def reset_peak(self) -> None:
        """Begin a new span."""
        self._sampler.reset_peak()

    def peak_bytes(self) -> int | None:
        """The highest sample of the span, one taken now included."""
        self._sampler.sample()
        return self._sampler.peak_bytes


class NoMeter:
    """A card whose driver does not tell."""

    def reset_peak(self) -> None:
        """Nothing to begin."""

    def peak_bytes(self) -> int | None:
        """Not known."""
        return None
