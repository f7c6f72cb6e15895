from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from profiler.errors import ConfigError
from profiler.jobs.job import METHODS
from profiler.records.build import build_record
from profiler.records.fingerprint import fingerprint_of
from profiler.records.frame import table_columns, to_frame, write_table
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName
from profiler.records.store import record_file_name
from profiler.units import GIB
from tests.builders import AT, ROOT, a_job, a_phase, a_record, a_report, an_environment

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = ROOT / "docs" / "records-table.md"


def test_a_record_is_a_row() -> None:
    record = a_record(spec=a_job(method={"kind": "lora", "targets": "v,q"}))
    row = to_frame([record]).iloc[0]
    expected = {
        "record": record_file_name(record),
        "key": record.key,
        "fingerprint": fingerprint_of(record),
        "created_at": pd.Timestamp(AT),
        "model": "llama-3.1-8b",
        "method.kind": "lora",
        "method.targets": "q,v",
        "gradient_checkpointing.enabled": True,
        "outcome.status": "ok",
        "device.kind": "virtual",
        "environment.torch": "2.14.1",
        "peak.allocated_bytes": 10 * GIB,
        "peak_load.allocated_bytes": 6 * GIB,
        "steady.allocated_end_bytes": 6 * GIB,
        "components.optimizer_bytes": GIB,
        "components_at.phase": "forward",
        "last_step.backward.allocated_peak_bytes": 10 * GIB,
        "parameters.trainable": 41_943_040,
        "num_ooms": 0,
    }
    assert {name: row[name] for name in expected} == expected


def test_what_a_record_does_not_have_is_missing_not_zero() -> None:
    killed = Outcome(status=OutcomeStatus.KILLED, signal=9)
    record = build_record(spec=a_job(method="full"), report=None, outcome=killed, created_at=AT)
    row = to_frame([record]).iloc[0]
    for name in ("method.rank", "method.double_quant", "peak.allocated_bytes", "fingerprint", "device.kind"):
        assert pd.isna(row[name]), name
    assert row["outcome.signal"] == 9


def test_of_micro_batches_the_highest_counts() -> None:
    phases = (
        a_phase(PhaseName.FORWARD, 0, micro_step=0, end=2 * GIB, peak=5 * GIB),
        a_phase(PhaseName.FORWARD, 0, micro_step=1, end=2 * GIB, peak=4 * GIB),
        a_phase(PhaseName.ZERO_GRAD, 0, end=GIB),
    )
    row = to_frame([a_record(spec=a_job(accumulation=2), report=a_report(phases))]).iloc[0]
    assert row["accumulation"] == 2
    assert row["last_step.forward.allocated_peak_bytes"] == 5 * GIB
    assert row["components_at.micro_step"] == 0


def test_inference_has_its_own_phases_and_no_step() -> None:
    phases = (a_phase(PhaseName.PREFILL, end=2 * GIB, peak=3 * GIB), a_phase(PhaseName.DECODE, end=4 * GIB))
    row = to_frame([a_record(spec=a_job(method="inference"), report=a_report(phases))]).iloc[0]
    assert row["method.new_tokens"] == 32
    assert row["prefill.allocated_peak_bytes"] == 3 * GIB
    assert row["decode.allocated_peak_bytes"] == row["peak_step.allocated_bytes"] == 4 * GIB
    assert pd.isna(row["last_step.forward.allocated_peak_bytes"])


def test_every_table_has_the_same_columns_and_types() -> None:
    frames = [to_frame([]), to_frame([a_record(spec=a_job(method=kind)) for kind in METHODS])]
    for frame in frames:
        assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == dict(table_columns())
    assert len(frames[1]) == len(METHODS)


def test_bytes_are_whole_numbers_however_many_are_missing() -> None:
    assert {dtype for name, dtype in table_columns().items() if name.endswith("_bytes")} == {"Int64"}


def test_recorded_variables_are_one_text() -> None:
    environment = an_environment(variables={"B": "2", "A": "1"})
    row = to_frame([a_record(report=a_report(environment=environment))]).iloc[0]
    assert row["environment.variables"] == "A=1 B=2"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_written_table_is_read_back(suffix: str, tmp_path: Path) -> None:
    records = [a_record(spec=a_job(method=kind)) for kind in METHODS]
    path = tmp_path / "new" / f"records{suffix}"
    write_table(records, path)
    if suffix == ".csv":
        read = pd.read_csv(path, dtype={n: d for n, d in table_columns().items() if n != "created_at"})
        assert list(read.columns) == list(table_columns())
        assert list(read["method.rank"].fillna(0)) == [0, 16, 16, 16, 0]
    else:
        pd.testing.assert_frame_equal(pd.read_parquet(path), to_frame(records))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_records_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet", "a.csv", "b.csv"):
        write_table([a_record()], tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_made_in_parts_is_the_same(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [a_record(spec=a_job(method=kind, seq_len=n)) for kind in METHODS for n in (1, 2)]
    write_table(records, tmp_path / f"whole{suffix}")
    whole = to_frame(records)
    monkeypatch.setattr("profiler.records.frame._ROWS_A_PART", 3)
    pd.testing.assert_frame_equal(to_frame(iter(records)), whole)
    write_table(iter(records), tmp_path / f"parts{suffix}")
    if suffix == ".csv":
        assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    else:
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "parts.parquet"), whole)


def test_no_text_of_a_record_is_a_formula_or_acts_on_a_terminal(tmp_path: Path) -> None:
    record = a_record(spec=a_job(model="+evil/model")).model_copy(update={"notes": ("=HYPERLINK(1)",)})
    outcome = Outcome(status=OutcomeStatus.ERROR, message="\x1b]0;x\x07 failed\nbadly", exit_code=-5)
    write_table([record.model_copy(update={"outcome": outcome})], tmp_path / "records.csv")
    text = (tmp_path / "records.csv").read_text()
    (row,) = csv.DictReader(text.splitlines(keepends=True))
    assert (row["model"], row["notes"]) == ("'+evil/model", "'=HYPERLINK(1)")
    assert (row["outcome.message"], row["outcome.exit_code"]) == ("\\x1b]0;x\\x07 failed\nbadly", "-5")
    assert not {c for c in text if not c.isprintable()} - {"\n"}


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither .csv nor .parquet"):
        write_table([a_record()], tmp_path / "records.xlsx")


def test_the_documentation_lists_every_column_once() -> None:
    documented = re.findall(r"^\| `([\w.]+)` \|", DOCUMENT.read_text(), flags=re.MULTILINE)
    assert sorted(documented) == sorted(table_columns())
