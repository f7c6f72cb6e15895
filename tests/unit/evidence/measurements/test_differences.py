from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from profiler.evidence.measurements.device_gap import device_gaps
from profiler.evidence.measurements.differences import (
    DEVICE_USED,
    END_ALLOCATED_A,
    GRADE_B,
    PEAK_ALLOCATED_A,
    BarResult,
    ComparedRow,
    compare_rows,
    hold_to_bars,
)
from profiler.evidence.measurements.figures import RecordFigure
from profiler.evidence.measurements.published import Grade, Metric
from profiler.records.schema import OutcomeStatus
from profiler.units import GIB, MIB
from tests.builders import a_job
from tests.unit.evidence.measurements.rows import a_library_set, a_measurement, a_row, a_trained_record

OLD = a_library_set(Path("old.txt"))
HERE = a_library_set(Path(), name="here", torch="2.14.1")


def compared(*virtual: int, published: int = 1_000_000, **changes: object) -> list[ComparedRow]:
    """One row a virtual figure, each of a job of its own."""
    rows, records = [], []
    for number, value in enumerate(virtual, start=1):
        job = a_job(batch_size=number)
        name = f"some-{number:03d}"
        measurement = a_measurement(name, value_bytes=published, **changes)
        rows.append(a_row(name, job=job, measurement=measurement))
        records.append(a_trained_record(job, peak_bytes=value, end_bytes=0))
    return compare_rows(rows, records, library_sets={}, current=HERE)


def verdict_of(comparisons: list[ComparedRow], name: str) -> BarResult:
    return next(verdict for verdict in hold_to_bars(comparisons) if verdict.bar.name == name)


def test_a_difference_is_virtual_less_published_as_a_share_of_the_published() -> None:
    (comparison,) = compared(995_000)
    reading = comparison.current
    assert reading is not None
    assert (reading.difference_bytes, reading.share) == (-5000, Fraction(-5, 1000))


def test_the_median_is_of_absolute_differences() -> None:
    verdict = verdict_of(compared(990_000, 1_001_000, 1_004_000), PEAK_ALLOCATED_A.name)
    assert verdict.median == Fraction(4, 1000)
    assert verdict.worst == (Fraction(10, 1000), "some-001")


def test_the_median_of_an_even_number_is_between_the_middle_two() -> None:
    assert verdict_of(compared(999_000, 1_002_000), PEAK_ALLOCATED_A.name).median == Fraction(15, 10_000)


def test_a_bar_is_met_exactly_at_its_value_and_not_beyond() -> None:
    assert verdict_of(compared(1_003_000), PEAK_ALLOCATED_A.name).is_met
    assert not verdict_of(compared(1_003_001), PEAK_ALLOCATED_A.name).is_met


def test_one_row_beyond_the_worst_fails_whatever_the_median() -> None:
    assert not verdict_of(compared(1_000_000, 1_000_000, 1_020_001), PEAK_ALLOCATED_A.name).is_met


def test_a_group_without_rows_meets_nothing() -> None:
    assert not verdict_of(compared(1_000_000), GRADE_B.name).is_met


def test_a_difference_over_half_a_per_cent_wants_a_reason() -> None:
    assert verdict_of(compared(1_005_000, 1_005_001), PEAK_ALLOCATED_A.name).unexplained == ("some-002",)


def test_grades_and_metrics_are_judged_apart() -> None:
    comparisons = (
        compared(1_100_000, metric=Metric.NVIDIA_SMI)
        + compared(1_200_000, grade=Grade.B)
        + compared(1_300_000, metric=Metric.ALLOCATED_END)
    )
    worst = {verdict.bar.name: verdict.worst for verdict in hold_to_bars(comparisons)}
    assert worst == {
        PEAK_ALLOCATED_A.name: None,
        END_ALLOCATED_A.name: (Fraction(3, 10), "some-001"),
        DEVICE_USED.name: (Fraction(1, 10), "some-001"),
        GRADE_B.name: (Fraction(2, 10), "some-001"),
    }


def test_a_row_that_names_its_libraries_is_judged_with_them_alone() -> None:
    row = a_row(environment="old")
    today = a_trained_record(peak_bytes=1_500_000, end_bytes=0)
    (comparison,) = compare_rows([row], [today], library_sets={"old": OLD}, current=HERE)
    assert comparison.best is None
    assert hold_to_bars([comparison])[0].num_without == 1
    then = a_trained_record(peak_bytes=1_000_001, end_bytes=0, torch="2.4.1+cu121")
    (comparison,) = compare_rows([row], [today, then], library_sets={"old": OLD}, current=HERE)
    assert comparison.best is not None
    assert comparison.best.difference_bytes == 1
    assert comparison.current is not None
    assert comparison.current.difference_bytes == 500_000


def test_a_record_of_a_real_card_is_never_taken_for_a_virtual_one() -> None:
    record = a_trained_record(peak_bytes=1_000_000, end_bytes=0, kind="real")
    (comparison,) = compare_rows([a_row()], [record], library_sets={}, current=HERE)
    assert comparison.current is None


def test_a_job_that_ran_out_of_memory_has_no_figure() -> None:
    record = a_trained_record(peak_bytes=1_000_000, end_bytes=0)
    outcome = record.outcome.model_copy(update={"status": OutcomeStatus.OOM})
    failed = type(record).model_validate(record.model_dump() | {"outcome": outcome.model_dump()})
    (comparison,) = compare_rows([a_row()], [failed], library_sets={}, current=HERE)
    assert comparison.current is not None
    assert (comparison.current.value_bytes, comparison.current.outcome) == (None, "oom")


def test_what_a_device_figure_leaves_is_taken_from_the_reserved_bytes_of_the_last_step() -> None:
    measurement = a_measurement(metric=Metric.NVIDIA_SMI, value_bytes=2 * GIB)
    row = a_row(measurement=measurement, figure=RecordFigure.LAST_STEP_DEVICE_USED, environment="old")
    record = a_trained_record(peak_bytes=2 * GIB - 500 * MIB, end_bytes=0, torch="2.4.1")
    comparisons = compare_rows([row], [record], library_sets={"old": OLD}, current=HERE)
    (gap,) = device_gaps(comparisons, [record], library_sets={"old": OLD})
    assert gap.left_bytes == 500 * MIB
