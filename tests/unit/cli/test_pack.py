from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.records.store import RecordStore
from tests.builders import a_record
from tests.unit.cli.scheduler import OOM, with_outcomes

if TYPE_CHECKING:
    from tests.unit.cli.scheduler import Scheduler


def test_a_study_is_packed_and_exported(scheduler: Scheduler, capsys: pytest.CaptureFixture[str]) -> None:
    with_outcomes(scheduler, at_1024=OOM)
    assert run_command(["sweep", "sweep.yaml"]) == 0
    assert run_command(["pack", "results/test", "--remove"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Removed 4 files it holds",
        "Wrote 4 records to results/test/records.jsonl.gz",
    ]
    assert run_command(["export", "results/test"]) == 0
    names = ["README.md", "tables.md", "records.csv", "records.parquet"]
    assert capsys.readouterr().out.splitlines() == [f"Wrote results/test/{name}" for name in names]
    assert run_command(["sweep", "sweep.yaml"]) == 0
    assert "4 were stored before" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["pack", "export"])
def test_a_study_without_records_is_refused(
    command: str, scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([command, "nowhere"]) == 2
    assert capsys.readouterr().err == "error: there is no record in nowhere\nhint: a sweep puts them there\n"
    assert scheduler.asked == []
    assert not Path("nowhere").exists()


def test_a_pack_as_json(scheduler: Scheduler, capsys: pytest.CaptureFixture[str]) -> None:
    RecordStore(Path("study")).put(a_record())
    assert run_command(["pack", "study", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    size = Path("study/records.jsonl.gz").stat().st_size
    assert told == {"path": "study/records.jsonl.gz", "num_records": 1, "num_bytes": size, "num_removed": 0}
    assert scheduler.asked == []
