from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from profiler.errors import ConfigError
from profiler.jobs.sweep import Sweep
from profiler.records.pack import pack_study
from profiler.records.store import RecordStore
from profiler.records.study import SweepNote, note_sweep
from profiler.report.files.study import publish
from tests.builders import a_job, a_record

if TYPE_CHECKING:
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

NAMES = ["README.md", "tables.md", "records.csv", "records.parquet"]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path / "my-study")
    for length in (512, 1024):
        store.put(a_record(spec=a_job(seq_len=length)))
    sweep = Sweep(name="my-study", description="Two lengths of *one* job.")
    note_sweep(store.directory, SweepNote(command="peakvram sweep my-study.yaml", sweep=sweep))
    return store


def test_a_study_is_published_in_four_files(store: RecordStore) -> None:
    assert [path.name for path in publish(store)] == NAMES
    tables = (store.directory / "tables.md").read_text()
    assert tables.startswith("# my-study: tables (virtual)\n")
    assert len(pd.read_csv(store.directory / "records.csv")) == 2
    assert len(pd.read_parquet(store.directory / "records.parquet")) == 2


def test_the_readme_of_a_study(store: RecordStore, snapshot: SnapshotAssertion) -> None:
    publish(store)
    assert (store.directory / "README.md").read_text() == snapshot


def test_publishing_a_packed_study_gives_the_same_bytes(store: RecordStore) -> None:
    before = {path.name: path.read_bytes() for path in publish(store)}
    pack_study(store, remove=True)
    assert {path.name: path.read_bytes() for path in publish(store)} == before


def test_what_somebody_wrote_below_the_mark_is_kept(store: RecordStore) -> None:
    publish(store)
    readme = store.directory / "README.md"
    generated = readme.read_text()
    readme.write_text(generated + "\n## What to make of it\n\nMuch.\n")
    publish(store)
    assert readme.read_text() == generated + "## What to make of it\n\nMuch.\n"
    publish(store)
    assert readme.read_text().count("Much.") == 1


def test_no_place_on_this_machine_is_told(store: RecordStore) -> None:
    for path in publish(store)[:3]:
        assert str(store.directory.parent) not in path.read_text()


def test_without_records_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no record in"):
        publish(RecordStore(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_a_readme_that_cannot_be_read_is_named(store: RecordStore) -> None:
    (store.directory / "README.md").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"README.md: it is not UTF-8 text"):
        publish(store)
