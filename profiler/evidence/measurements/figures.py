"""Which figure of a record answers to what was read on a real card; no other one may be compared with it."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.evidence.measurements.published import Metric
from profiler.records.schema import last_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.records.schema import Record


class RecordFigure(StrEnum):
    """A figure of a record, by its path there.

    `last_step.device_used_bytes` is the largest of the last completed step's phases.
    """

    PEAK_ALLOCATED = "peak.allocated_bytes"
    PEAK_RESERVED = "peak.reserved_bytes"
    PEAK_DEVICE_USED = "peak.device_used_bytes"
    STEP_PEAK_ALLOCATED = "peak_step.allocated_bytes"
    STEP_PEAK_RESERVED = "peak_step.reserved_bytes"
    END_ALLOCATED = "steady.allocated_end_bytes"
    LAST_STEP_DEVICE_USED = "last_step.device_used_bytes"


COMPARABLE: Mapping[Metric, frozenset[RecordFigure]] = MappingProxyType(
    {
        Metric.MAX_ALLOCATED: frozenset({RecordFigure.PEAK_ALLOCATED, RecordFigure.STEP_PEAK_ALLOCATED}),
        Metric.MAX_RESERVED: frozenset({RecordFigure.PEAK_RESERVED, RecordFigure.STEP_PEAK_RESERVED}),
        Metric.ALLOCATED_END: frozenset({RecordFigure.END_ALLOCATED}),
        Metric.NVIDIA_SMI: frozenset({RecordFigure.PEAK_DEVICE_USED, RecordFigure.LAST_STEP_DEVICE_USED}),
        # Means over thousands of batches of unequal length, and readings that nobody describes.
        Metric.ALLOCATED_STEP_END_MEAN: frozenset(),
        Metric.RESERVED_STEP_END_MEAN: frozenset(),
        Metric.PEAK_ACTIVE: frozenset(),
        Metric.TORCHTUNE_STATS: frozenset(),
        Metric.UNKNOWN: frozenset(),
    }
)
"""Whether a metric counts loading is the source's to say; that it is the same quantity is not."""

_KINDS: Mapping[Metric, str] = MappingProxyType(
    {
        Metric.MAX_ALLOCATED: "peak allocated",
        Metric.MAX_RESERVED: "peak reserved",
        Metric.ALLOCATED_END: "end allocated",
        Metric.NVIDIA_SMI: "device used",
    }
)


def metric_label(metric: Metric) -> str:
    """What people call it: `peak allocated`."""
    return _KINDS.get(metric, metric.value)


def read_figure(record: Record, figure: RecordFigure) -> int | None:
    """A record's figure; None where it has none, as where the job ran out of memory."""
    if figure is RecordFigure.LAST_STEP_DEVICE_USED:
        used = [phase.device_used_peak_bytes for phase in last_step(record.phases)]
        known = [size for size in used if size is not None]
        return max(known) if known and len(known) == len(used) else None
    name, _, field = figure.partition(".")
    part = getattr(record, name)
    size: int | None = None if part is None else getattr(part, field)
    return size


def last_step_reserved_bytes(record: Record) -> int | None:
    """The largest reserved figure of the last completed step: what lasts once training runs."""
    return max((phase.reserved_peak_bytes for phase in last_step(record.phases)), default=None)
