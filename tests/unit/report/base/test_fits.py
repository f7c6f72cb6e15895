from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.estimate.card import card_of
from profiler.estimate.estimate import Estimate, Fits, estimate_job
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.records.store import RecordStore
from profiler.report.base.fits import Cell, fit_table
from profiler.report.base.study_view import view_study
from profiler.units import GIB
from tests.builders import a_device, a_job, a_record, a_report
from tests.studies import a_study

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return a_study(tmp_path / "my-study")


def test_the_studys_own_card_is_answered_from_records(store: RecordStore) -> None:
    table = fit_table(view_study(store, factors_path=None, gpu=None))
    assert table is not None
    assert table.origin == "virtual (rtx-4090), from records"
    assert table.cells[("llama-3.1-8b", "qlora r16"), (512, 1)] == Cell(fits=Fits.YES, text="10.4")
    assert table.cells[("llama-3.1-8b", "full"), (2048, 1)] == Cell(fits=Fits.NO, text="OOM")
    assert table.cells[("llama-3.1-8b", "full"), (2048, 4)] == Cell(fits=Fits.NO, text="OOM*")


def test_any_other_card_is_answered_by_the_formula_as_an_estimate_is(store: RecordStore) -> None:
    view = view_study(store, factors_path=None, gpu="l4")
    table = fit_table(view)
    assert table is not None
    assert table.origin.startswith("estimated for l4 by the corrected formula")
    for (row, column), record in table.grid.cells.items():
        job = record.spec.model_copy(update={"gpu": "l4"})
        said = estimate_job(job, formula=PEAKVRAM, factors=view.factors, card=card_of(job))
        assert isinstance(said, Estimate)
        assert said.corrected.device_used is not None
        used = said.corrected.device_used.value_bytes
        assert isinstance(used, int)
        assert table.cells[row, column] == Cell(fits=said.verdict.fits, text=f"{used / GIB:.1f}")


def test_a_job_that_the_driver_lent_more_than_the_card_has_does_not_fit(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for length in (512, 1024):
        store.put(a_record(spec=a_job(seq_len=length), report=a_report(device=a_device(total_bytes=9 * GIB))))
    table = fit_table(view_study(store, factors_path=None, gpu=None))
    assert table is not None
    assert {cell.fits for cell in table.cells.values()} == {Fits.NO}


def test_a_study_of_single_jobs_has_no_table(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.put(a_record())
    assert fit_table(view_study(store, factors_path=None, gpu=None)) is None
