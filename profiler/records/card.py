"""What a job held of its card, as far as its record tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.records.schema import Record


def device_peak_bytes(record: Record) -> int | None:
    """The most a job held of its card: CUDA context + reserved, or what the card said where that is more.

    None where neither the context's size nor the card's own figure is known.
    """
    if record.peak is None or record.device is None:
        return None
    figures = [record.peak.device_used_bytes]
    if record.device.context_bytes is not None:
        figures.append(record.device.context_bytes + record.peak.reserved_bytes)
    return max((figure for figure in figures if figure is not None), default=None)
