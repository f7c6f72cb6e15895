"""Where a run says otherwise than the estimate of its job."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from profiler.estimate.estimate import Fits, single
from profiler.records.schema import OutcomeStatus, device_peak_bytes

if TYPE_CHECKING:
    from profiler.estimate.estimate import Estimate
    from profiler.records.schema import Record


class Miss(StrEnum):
    """What an estimate missed.

    Attributes:
        VERDICT: the job fits where the estimate says it does not, or the reverse.
        PEAK: the allocated peak lies outside the interval.
    """

    VERDICT = "verdict"
    PEAK = "peak"


def miss_of(estimate: Estimate, record: Record) -> Miss | None:
    """What the estimate of a job missed, by the record of its run; None for nothing."""
    if _contradicts(estimate, record):
        return Miss.VERDICT
    band, peak = estimate.corrected.allocated, record.peak
    if record.outcome.status is not OutcomeStatus.OK or peak is None:
        return None
    if band.low_bytes is None or band.high_bytes is None:
        return None
    is_within = single(band.low_bytes) <= peak.allocated_bytes <= single(band.high_bytes)
    return None if is_within else Miss.PEAK


def _contradicts(estimate: Estimate, record: Record) -> bool:
    is_estimated_to_fit = estimate.verdict.fits in (Fits.YES, Fits.LIKELY)
    match record.outcome.status:
        case OutcomeStatus.OK:
            used_bytes = device_peak_bytes(record)
            return used_bytes is not None and is_estimated_to_fit != (used_bytes <= estimate.card.total_bytes)
        case OutcomeStatus.OOM:
            return is_estimated_to_fit
        case _:
            return False
