from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.records.pack import pack_study
from profiler.records.store import RecordStore
from profiler.report.base.study_view import view_study
from profiler.report.files.study import write_report
from profiler.report.markdown.study import report_markdown
from tests.builders import a_job, a_record, a_report, no_room
from tests.studies import a_study

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

FILES = ["report.html", "report.md", "tables.md", "records.csv", "records.parquet"]
FIGURES = [f"{name}.{kind}" for name in ("fits", "components", "phases", "errors") for kind in ("png", "svg")]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return a_study(tmp_path / "my-study")


def written(store: RecordStore, *, out: Path | None = None) -> tuple[Path, ...]:
    return write_report(store, out=out, factors_path=None, gpu=None)


def test_a_report_is_a_page_tables_and_figures(store: RecordStore) -> None:
    paths = written(store)
    assert [path.name for path in paths] == FILES + FIGURES
    assert {path.parent for path in paths} == {store.directory, store.directory / "figures"}
    assert paths[0].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(pd.read_csv(store.directory / "records.csv")) == 24
    assert len(pd.read_parquet(store.directory / "records.parquet")) == 24


def test_a_report_can_go_elsewhere_and_leaves_the_study_alone(store: RecordStore, tmp_path: Path) -> None:
    before = sorted(store.directory.rglob("*"))
    paths = written(store, out=tmp_path / "report")
    assert all(path.is_relative_to(tmp_path / "report") for path in paths)
    assert sorted(store.directory.rglob("*")) == before


def test_a_packed_study_gives_the_same_bytes(store: RecordStore) -> None:
    before = {path.name: path.read_bytes() for path in written(store)}
    pack_study(store, remove=True)
    assert {path.name: path.read_bytes() for path in written(store)} == before


def test_a_study_too_large_to_be_kept_whole_differs_in_its_page_alone(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in written(store)}
    for module in ("records.slim", "report.base.study_view"):
        monkeypatch.setattr(f"profiler.{module}.MAX_WHOLE", 10)
    after = {path.name: path.read_bytes() for path in written(store)}
    assert {name for name in FILES + FIGURES if before[name] != after[name]} == {"report.html"}
    assert len(after["report.html"]) < len(before["report.html"])
    assert b"too many for one page" in after["report.html"]
    assert b"too many" not in before["report.html"]


def test_the_markdown_of_a_report(store: RecordStore, snapshot: SnapshotAssertion) -> None:
    view = view_study(store, factors_path=None, gpu=None)
    text = report_markdown(view, ())
    assert text.split("## Errors")[0] == snapshot  # errors are the formulas' business


def test_the_markdown_of_a_report_has_the_notes_of_the_jobs_it_looks_at(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "my-study")
    for batch in (1, 4):
        report = a_report(notes=(f"logits of batch {batch}",))
        store.put(a_record(spec=a_job(batch_size=batch), report=report))
    text = report_markdown(view_study(store, factors_path=None, gpu=None), ())
    (line,) = text.split("## Notes on these jobs\n\n")[1].split("\n\n")[0].splitlines()
    assert line.startswith("- llama-3.1-8b, qlora")
    assert line.endswith("attention: logits of batch 4")


def test_every_figure_is_shown_under_what_its_figures_are(store: RecordStore) -> None:
    text = written(store)[1].read_text(encoding="utf-8")
    assert text.count("](figures/") == 4
    assert text.count("Figures: virtual (rtx-4090)") == 4


def test_without_records_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no record"):
        written(RecordStore(tmp_path))


def test_a_place_that_is_a_file_is_refused_before_any_work(store: RecordStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a directory"):
        written(store, out=tmp_path / "file")


def test_a_full_disk_is_one_error(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.put(a_record())
    with no_room(10_000), pytest.raises(EnvironmentUnfitError, match=r"report\.html"):
        written(store)
