"""Whether each job of a table fits a card: by its record, or by the corrected formula for any other card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.estimate.estimate import Fits
from profiler.estimate.frame import estimate_frame
from profiler.formula.configs import is_at_hand
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.hardware.catalogue import find_gpu
from profiler.records.frame import to_frame
from profiler.records.schema import OutcomeStatus, device_peak_bytes
from profiler.report.base.describe import provenance
from profiler.report.base.verdict import outcome_label
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.records.schema import Record
    from profiler.report.base.arrange import Column, Grid, Row
    from profiler.report.base.study_view import CardView, StudyView


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One job on a card.

    Attributes:
        fits: the answer; None where there is none.
        text: the peak of device memory in GiB, or how the job ended.
    """

    fits: Fits | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FitTable:
    """The usual grid of a study, answered for one card.

    Attributes:
        grid: models and methods against lengths and batches.
        title: which card.
        origin: what the answers rest on.
        cells: the answers.
    """

    grid: Grid
    title: str
    origin: str
    cells: Mapping[tuple[Row, Column], Cell]


def fit_table(view: StudyView) -> FitTable | None:
    """The first grid of the study for the card that was asked for; None where the study has no grid."""
    for source in view.cards:
        if source.arrangement.grids:
            grid = source.arrangement.grids[0]
            return _of_records(source, grid) if view.gpu is None else _by_formula(view, grid, view.gpu)
    return None


def _of_records(source: CardView, grid: Grid) -> FitTable:
    device = source.device
    return FitTable(
        grid=grid,
        title=f"{device.name}, {device.total_bytes / GIB:.2f} GiB",
        origin=f"{provenance(device)}, from records",
        cells={place: _recorded(record) for place, record in grid.cells.items()},
    )


def _recorded(record: Record) -> Cell:
    if record.outcome.status is OutcomeStatus.OOM:
        return Cell(fits=Fits.NO, text="OOM" if record.outcome.inferred_from is None else "OOM*")
    used = device_peak_bytes(record)
    if record.outcome.status is not OutcomeStatus.OK or used is None or record.device is None:
        return Cell(fits=None, text=outcome_label(record.outcome))
    return Cell(fits=Fits.YES if used <= record.device.total_bytes else Fits.NO, text=f"{used / GIB:.1f}")


def _by_formula(view: StudyView, grid: Grid, gpu_id: str) -> FitTable:
    gpu = find_gpu(gpu_id)
    known = {place: record for place, record in grid.cells.items() if is_at_hand(record.spec.model)}
    jobs = to_frame(known.values()).assign(gpu=gpu.id, gpu_memory_bytes=None)
    estimates = estimate_frame(jobs, formula=PEAKVRAM, factors=view.factors, is_here=False)
    cells = dict.fromkeys(grid.cells, Cell(fits=None, text="?"))
    for place, (_, row) in zip(known, estimates.iterrows(), strict=True):
        fits, used = row["estimate.fits"], row["estimate.device_used_bytes"]
        if isinstance(fits, str) and isinstance(used, int):
            cells[place] = Cell(fits=Fits(fits), text=f"{used / GIB:.1f}")
    return FitTable(
        grid=grid,
        title=f"{gpu.name}, {gpu.total_bytes / GIB:.2f} GiB",
        origin=f"estimated for {gpu.id} by the corrected formula; nothing was run on it",
        cells=cells,
    )
