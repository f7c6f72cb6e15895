from __future__ import annotations

import csv
import io
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.evidence.measurements.device_gap import Gap
from profiler.evidence.measurements.differences import ComparedRow, compare_rows, hold_to_bars
from profiler.evidence.measurements.mapping import Mapped, RefusedRow
from profiler.evidence.measurements.outside import Outside
from profiler.evidence.measurements.report import (
    ValidationPage,
    bar_rows,
    comparison_rows,
    comparisons_csv,
    show_percent,
    validation_markdown,
)
from profiler.evidence.measurements.scatter import write_scatter
from profiler.units import GIB, MIB
from tests.builders import a_job
from tests.unit.evidence.measurements.rows import a_library_set, a_measurement, a_row, a_trained_record

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

OLD = a_library_set(Path("old.txt"))
HERE = a_library_set(Path(), name="here", torch="2.14.1")


def two_rows() -> list[ComparedRow]:
    """One with the libraries of its run, one with today's, 10 % off."""
    first = a_row(
        "some-001",
        measurement=a_measurement("some-001", value_bytes=10 * GIB),
        environment="old",
        because="a reason",
    )
    second = a_row(
        "some-002",
        job=a_job(batch_size=8, method="full"),
        measurement=a_measurement("some-002", value_bytes=20 * GIB),
        differs=("a note", "another *note*"),
    )
    records = [
        a_trained_record(first.job, peak_bytes=10 * GIB + 512, end_bytes=0, torch="2.4.1"),
        a_trained_record(second.job, peak_bytes=22 * GIB, end_bytes=0),
    ]
    return compare_rows([first, second], records, library_sets={"old": OLD}, current=HERE)


def a_page() -> ValidationPage:
    comparisons = two_rows()
    refused = tuple(
        RefusedRow(measurement=a_measurement(f"some-{number:03d}"), reason="its lengths are not known")
        for number in (3, 4, 5, 7)
    )
    rows = tuple(comparison.row for comparison in comparisons)
    return ValidationPage(
        comparisons=comparisons,
        results=hold_to_bars(comparisons),
        mapped=Mapped(rows=rows, refused=refused, titles={"some": "Some <one>"}, read={"some": "By hand."}),
        library_sets={"old": OLD},
        current=HERE,
        gaps=[Gap(row="some-001", device_used_bytes=11 * GIB, reserved_bytes=10 * GIB)],
        outside=Outside(
            low_bytes=300 * MIB, typical_bytes=400 * MIB, high_bytes=500 * MIB, reason="readings"
        ),
    )


def test_the_page(snapshot: SnapshotAssertion) -> None:
    assert validation_markdown(a_page()) == snapshot


def test_the_page_calls_its_own_figures_virtual_and_never_measured() -> None:
    text = validation_markdown(a_page())
    assert "Nothing here was measured by peakvram" in text
    headings = [line for line in text.splitlines() if line.startswith("| row |")]
    assert all("virtual" in line for line in headings)


def test_a_row_keeps_its_provenance_in_the_table_for_programs() -> None:
    first, second = csv.DictReader(io.StringIO(comparisons_csv(two_rows())))
    assert (first["repository"], first["path"], first["commit"]) == (
        "github.com/someone/somewhere",
        "results.csv",
        "abc1234",
    )
    assert (first["own_virtual_bytes"], first["own_difference_bytes"]) == (str(10 * GIB + 512), "512")
    assert (second["own_virtual_bytes"], second["current_difference_percent"]) == ("", "10.0")


def test_no_rows_are_no_table() -> None:
    assert comparison_rows([]) == []
    assert comparisons_csv([]) == "\n"


def test_the_summary_names_rows_without_a_reason() -> None:
    summary = bar_rows(hold_to_bars(two_rows()))[0]
    assert summary["unexplained"] == ["some-002"]
    assert summary["is_met"] is False


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Fraction(-5, 100), "-5.00 %"),
        (Fraction(1, 3), "+33.3 %"),
        (Fraction(3, 10_000_000), "+0.0000300 %"),
        (Fraction(0), "+0 %"),
        (None, "-"),
    ],
)
def test_small_shares_keep_digits_that_tell_something(share: Fraction | None, expected: str) -> None:
    assert show_percent(share, signed=True) == expected


@pytest.mark.slow
def test_the_same_rows_draw_the_same_figure(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first = write_scatter(two_rows(), tmp_path, name="figure")
    again = write_scatter(two_rows(), tmp_path / "again", name="figure")
    assert [path.name for path in first] == ["figure.png", "figure.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
