from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from profiler.records.store import RecordStore
from profiler.report.base.study_view import view_study
from profiler.report.figures.study import write_figures
from tests.builders import a_job, a_record
from tests.studies import a_study

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.report.base.study_view import Drawn

SVG = "{http://www.w3.org/2000/svg}"


def drawn(store: RecordStore, directory: Path, *, gpu: str | None = None) -> tuple[Drawn, ...]:
    return write_figures(view_study(store, factors_path=None, gpu=gpu), directory)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return a_study(tmp_path / "my-study")


def test_every_figure_is_written_as_png_and_svg(store: RecordStore, tmp_path: Path) -> None:
    figures = drawn(store, tmp_path / "figures")
    assert [figure.name for figure in figures] == ["fits", "components", "phases", "errors"]
    for figure in figures:
        png, svg = figure.paths
        assert png.read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(svg).getroot().tag == f"{SVG}svg"


def test_the_same_records_give_the_same_bytes(store: RecordStore, tmp_path: Path) -> None:
    first, second = (drawn(store, tmp_path / name) for name in ("first", "second"))
    for one, two in zip(first, second, strict=True):
        assert [path.read_bytes() for path in one.paths] == [path.read_bytes() for path in two.paths]


def test_a_figure_says_what_its_figures_are(store: RecordStore, tmp_path: Path) -> None:
    for figure in drawn(store, tmp_path / "figures"):
        assert "<!-- virtual (rtx-4090)" in figure.paths[1].read_text(encoding="utf-8"), figure.name


def test_a_figure_of_more_lengths_than_can_be_read_shows_those_with_most_records(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "wide")
    for length in range(1, 64):
        for method in ("lora", "qlora"):
            store.put(a_record(spec=a_job(method=method, seq_len=length)))
    (fits,) = [figure for figure in drawn(store, tmp_path / "figures") if figure.name == "fits"]
    assert "60 of 63 columns, those with most records" in fits.paths[1].read_text()


def test_a_figure_for_another_card_is_called_an_estimate(store: RecordStore, tmp_path: Path) -> None:
    fits = drawn(store, tmp_path / "figures", gpu="h100-80gb")[0]
    assert fits.origin.startswith("estimated for h100-80gb")
    assert "<!-- estimated for h100-80gb" in fits.paths[1].read_text(encoding="utf-8")


def test_a_name_with_dollar_signs_is_drawn_as_it_is(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "$x_{2}$")
    for length in (512, 1024):
        store.put(a_record(spec=a_job(model="some/$x_{2}$", seq_len=length)))
    names = [figure.name for figure in drawn(store, tmp_path / "figures")]
    assert names == ["fits", "components", "phases"]


def test_what_a_study_has_nothing_of_is_not_drawn(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "one")
    store.put(a_record())
    assert [figure.name for figure in drawn(store, tmp_path / "figures")] == ["errors"]
