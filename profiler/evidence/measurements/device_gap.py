"""What published device figures leave beyond the virtual reserved figures of the same jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.evidence.measurements.differences import newest_record
from profiler.evidence.measurements.figures import last_step_reserved_bytes
from profiler.evidence.measurements.outside import load_outside, outside_of
from profiler.evidence.measurements.published import Metric
from profiler.hardware.catalogue import find_gpu

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.evidence.measurements.differences import ComparedRow
    from profiler.evidence.measurements.environments import LibrarySet
    from profiler.evidence.measurements.outside import Outside
    from profiler.records.schema import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One pair of figures.

    Attributes:
        row: the published row.
        device_used_bytes: what was published, of a real card.
        reserved_bytes: what the virtual card's allocator held in the last step.
    """

    row: str
    device_used_bytes: int
    reserved_bytes: int

    @property
    def left_bytes(self) -> int:
        """The context with its kernels, and the difference of two runs' reserved memory; may be negative."""
        return self.device_used_bytes - self.reserved_bytes


def device_gaps(
    comparisons: Sequence[ComparedRow], records: Sequence[Record], *, library_sets: Mapping[str, LibrarySet]
) -> list[Gap]:
    """The pairs of all rows that give a device figure, under the libraries of the published run alone."""
    gaps: list[Gap] = []
    for comparison in comparisons:
        row = comparison.row
        if row.measurement.metric is not Metric.NVIDIA_SMI or not row.environment:
            continue
        record = newest_record(records, row.job, library_sets[row.environment])
        reserved = None if record is None else last_step_reserved_bytes(record)
        if reserved is not None:
            gaps.append(
                Gap(
                    row=row.measurement.id,
                    device_used_bytes=row.measurement.value_bytes,
                    reserved_bytes=reserved,
                )
            )
    return gaps


def device_outside(comparisons: Sequence[ComparedRow]) -> Outside | None:
    """What readings of other cards say of the card whose device figures were published; None without one."""
    cards = dict.fromkeys(
        comparison.row.job.gpu
        for comparison in comparisons
        if comparison.row.measurement.metric is Metric.NVIDIA_SMI
    )
    card = next(iter(cards), None)
    if card is None:
        return None
    gpu = find_gpu(card)
    return outside_of(gpu.num_sms, gpu.generation, load_outside().readings)
