from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.evidence.measurements.published import (
    Grade,
    Metric,
    load_measurements,
    published_dir,
    to_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("72434837504", "bytes", 72_434_837_504),
        ("72972297728.0", "bytes", 72_972_297_728),
        ("77256", "MiB", 81_008_787_456),
        ("6.99", "GiB", 7_505_455_350),  # 7505455349.76
        ("15.57", "GB", 15_570_000_000),
    ],
)
def test_published_units_become_bytes(value: str, unit: str, expected: int) -> None:
    assert to_bytes(value, unit) == expected


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="'GBytes' is no unit"):
        to_bytes("1", "GBytes")


def test_every_published_figure_says_who_measured_it_where_and_when() -> None:
    rows = load_measurements()
    assert len(rows) == 155
    for row in rows.values():
        assert row.repository, row.id
        assert row.path, row.id
        assert row.commit, row.id
        assert row.value_bytes > 0


def test_a_row_keeps_its_figure_as_published_beside_the_bytes() -> None:
    row = load_measurements()["fms-009"]
    assert (row.value_text, row.value_bytes) == ("77256 MiB", 81_008_787_456)
    assert (row.source, row.metric, row.grade) == ("fms", Metric.NVIDIA_SMI, Grade.A)
    assert row.commit == "24bdadb"


def test_a_row_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    lines = (published_dir() / "measurements.csv").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "twice.csv"
    path.write_text("\n".join([*lines[:2], lines[1]]), encoding="utf-8")
    with pytest.raises(ConfigError, match="row fms-007 is there twice"):
        load_measurements(path)


def test_a_metric_nobody_described_is_refused_and_its_row_named(tmp_path: Path) -> None:
    text = (published_dir() / "measurements.csv").read_text(encoding="utf-8")
    path = tmp_path / "odd.csv"
    path.write_text(text.replace("nvidia_smi", "nvtop"), encoding="utf-8")
    with pytest.raises(ConfigError, match="row fms-009: 'nvtop'"):
        load_measurements(path)
