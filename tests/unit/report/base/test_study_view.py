from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.estimate.factors import default_factors, write_factors
from profiler.records.store import RecordStore
from profiler.report.base.describe import provenance
from profiler.report.base.study_view import describe_fitted_on, find_example, view_study
from tests.builders import a_device, a_job, a_real_device, a_record, a_report
from tests.studies import a_study

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.records.store import RecordStore as Store
    from profiler.report.base.study_view import StudyView


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return a_study(tmp_path / "my-study")


def viewed(store: Store, **options: str | None) -> StudyView:
    return view_study(store, factors_path=None, gpu=options.get("gpu"))


def test_a_virtual_figure_is_called_virtual_and_a_real_one_measured() -> None:
    assert provenance(a_device()) == "virtual (rtx-4090)"
    assert provenance(a_real_device()) == "measured on NVIDIA A100-SXM4-80GB"


def test_the_example_is_the_largest_batch_that_most_methods_finished(store: Store) -> None:
    example = find_example(viewed(store))
    assert example is not None
    assert example.model == "llama-3.1-8b"
    # Full fine-tuning ran out of memory at 2048 tokens: 4 x 512 is the largest batch that all three finished.
    assert example.column == (512, 4)
    assert [row[1] for _, row, _ in example.records] == ["full", "lora r16", "qlora r16"]


def test_a_study_with_no_two_jobs_alike_has_no_example(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.put(a_record())
    assert find_example(viewed(store)) is None


def test_the_studys_own_factors_come_before_the_shipped_ones(store: Store) -> None:
    assert viewed(store).factors_name == "shipped with peakvram"
    own = default_factors().model_copy(update={"formulas": {}})
    write_factors(store.directory / "factors.json", own)
    view = viewed(store)
    assert view.factors_name == "factors.json"
    assert view.factors.formulas == {}
    assert all(error.corrected is None for error in view.errors)


def test_factors_say_whether_the_study_is_among_their_records(store: Store) -> None:
    assert "on other jobs errors are larger" not in describe_fitted_on(viewed(store))
    fitted_on = default_factors().fitted_on.model_copy(update={"studies": ("my-study",)})
    own = default_factors().model_copy(update={"fitted_on": fitted_on})
    write_factors(store.directory / "factors.json", own)
    assert "on other jobs errors are larger" in describe_fitted_on(viewed(store))


def test_cards_stay_apart(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.put(a_record())
    store.put(a_record(spec=a_job(gpu="real"), report=a_report(device=a_real_device())))
    assert [provenance(source.device) for source in viewed(store).cards] == [
        "measured on NVIDIA A100-SXM4-80GB",
        "virtual (rtx-4090)",
    ]


def test_a_study_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no record in"):
        viewed(RecordStore(tmp_path))


def test_an_unknown_card_is_refused_with_the_nearest_one(store: Store) -> None:
    with pytest.raises(ConfigError, match="rtx-4080x") as error:
        viewed(store, gpu="rtx-4080x")
    assert "rtx-4080" in error.value.hint
