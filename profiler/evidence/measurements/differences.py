"""How far virtual figures are from the published ones of real cards, row by row and against the bars set."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import TYPE_CHECKING

from profiler.evidence.measurements.figures import metric_label, read_figure
from profiler.evidence.measurements.published import Grade, Metric
from profiler.jobs.identity import job_key
from profiler.records.schema import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiler.evidence.measurements.environments import LibrarySet
    from profiler.evidence.measurements.mapping import MappedRow
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

EXPLAIN_ABOVE = Fraction(5, 1000)
"""A difference above this share of the published figure needs a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualFigure:
    """What the virtual card gave for a row under one set of libraries.

    Attributes:
        libraries: the set's name.
        value_bytes: the figure; None where the job has none.
        published_bytes: what it is compared with.
        outcome: how the job ended: `ok`, `oom`, ...
    """

    libraries: str
    value_bytes: int | None
    published_bytes: int
    outcome: str

    @property
    def difference_bytes(self) -> int | None:
        """Virtual less published."""
        return None if self.value_bytes is None else self.value_bytes - self.published_bytes

    @property
    def share(self) -> Fraction | None:
        """The difference as a share of the published figure, exactly."""
        difference = self.difference_bytes
        return None if difference is None else Fraction(difference, self.published_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """A published row and what the virtual card gave for it.

    Attributes:
        row: the row.
        own: with the libraries of the published run; None where there is no record of such a run.
        current: with the libraries installed here; None likewise.
    """

    row: MappedRow
    own: VirtualFigure | None
    current: VirtualFigure | None

    @property
    def best(self) -> VirtualFigure | None:
        """Like with like: with the run's libraries where the row names them, else with those here."""
        return self.own if self.row.environment else self.current

    @property
    def because(self) -> str:
        """Why `best` differs, as far as the mapping says."""
        return self.row.because if self.row.environment else self.row.because_current


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What was asked of a group of rows before anything was run.

    Attributes:
        name: the group, in words.
        max_median: the largest median of the absolute differences, as a share; None for no bar.
        max_worst: the largest of any row; None for no bar.
    """

    name: str
    max_median: Fraction | None
    max_worst: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BarResult:
    """How a group of rows stands against its bar.

    Attributes:
        bar: what was asked.
        shares: the absolute differences of its rows, ascending, each with its row's id.
        num_without: rows with no virtual figure.
        unexplained: rows above `EXPLAIN_ABOVE` for which the mapping gives no reason.
        here: the absolute differences with the libraries installed here, ascending; no bar was set for them.
    """

    bar: Bar
    shares: tuple[tuple[Fraction, str], ...]
    num_without: int
    unexplained: tuple[str, ...]
    here: tuple[Fraction, ...] = ()

    @property
    def median(self) -> Fraction | None:
        """The median of the absolute differences; None where there is none."""
        return median(share for share, _ in self.shares) if self.shares else None

    @property
    def median_here(self) -> Fraction | None:
        """The median with the libraries installed here."""
        return median(self.here) if self.here else None

    @property
    def worst(self) -> tuple[Fraction, str] | None:
        """The largest absolute difference, and its row."""
        return self.shares[-1] if self.shares else None

    @property
    def is_met(self) -> bool:
        """Whether the rows that have figures keep to the bar; False where there is no row."""
        if self.median is None or self.worst is None:
            return False
        return _is_within(self.median, self.bar.max_median) and _is_within(self.worst[0], self.bar.max_worst)


PEAK_ALLOCATED_A = Bar(
    name="grade A, peak allocated", max_median=Fraction(3, 1000), max_worst=Fraction(2, 100)
)
END_ALLOCATED_A = Bar(name="grade A, end allocated", max_median=None, max_worst=Fraction(5, 10_000))
DEVICE_USED = Bar(name="all grades, device used", max_median=Fraction(4, 100), max_worst=None)
GRADE_B = Bar(name="grade B", max_median=Fraction(3, 100), max_worst=None)


def compare_rows(
    rows: Iterable[MappedRow],
    records: Sequence[Record],
    *,
    library_sets: Mapping[str, LibrarySet],
    current: LibrarySet,
) -> list[ComparedRow]:
    """Puts every row beside the records of its job.

    Args:
        rows: the mapped rows.
        records: of any jobs, under any libraries; a real card's are left out.
        library_sets: the sets that rows name, by name.
        current: the libraries installed here.
    """
    return [
        ComparedRow(
            row=row,
            own=_read(row, records, library_sets[row.environment]) if row.environment else None,
            current=_read(row, records, current),
        )
        for row in rows
    ]


def newest_record(records: Iterable[Record], job: JobSpec, libraries: LibrarySet) -> Record | None:
    """The newest record of a job on a virtual card under a set of libraries; None where there is none."""
    key = job_key(job)
    matching = [
        record
        for record in records
        if record.key == key
        and (record.device is None or record.device.kind == "virtual")
        and libraries.matches(record.environment)
    ]
    return max(matching, key=lambda record: record.created_at, default=None)


def hold_to_bars(comparisons: Sequence[ComparedRow]) -> list[BarResult]:
    """How the rows stand against the bars, group by group; the device figures are a group of their own."""
    groups: dict[Bar, list[ComparedRow]] = {
        bar: [] for bar in (PEAK_ALLOCATED_A, END_ALLOCATED_A, DEVICE_USED, GRADE_B)
    }
    for comparison in comparisons:
        groups[_bar_of(comparison)].append(comparison)
    return [_hold(bar, group) for bar, group in groups.items()]


def _bar_of(comparison: ComparedRow) -> Bar:
    measurement = comparison.row.measurement
    if measurement.metric is Metric.NVIDIA_SMI:
        return DEVICE_USED
    if measurement.grade is not Grade.A:
        return GRADE_B
    match measurement.metric:
        case Metric.MAX_ALLOCATED:
            return PEAK_ALLOCATED_A
        case Metric.ALLOCATED_END:
            return END_ALLOCATED_A
        case _:
            raise AssertionError(f"no bar was set for {metric_label(measurement.metric)} of grade A")


def _hold(bar: Bar, group: Sequence[ComparedRow]) -> BarResult:
    shares: list[tuple[Fraction, str]] = []
    unexplained: list[str] = []
    for comparison in group:
        share = comparison.best.share if comparison.best else None
        if share is None:
            continue
        shares.append((abs(share), comparison.row.measurement.id))
        if abs(share) > EXPLAIN_ABOVE and not comparison.because:
            unexplained.append(comparison.row.measurement.id)
    return BarResult(
        bar=bar,
        shares=tuple(sorted(shares)),
        num_without=len(group) - len(shares),
        unexplained=tuple(unexplained),
        here=tuple(
            sorted(
                abs(item.current.share) for item in group if item.current and item.current.share is not None
            )
        ),
    )


def _read(row: MappedRow, records: Iterable[Record], libraries: LibrarySet) -> VirtualFigure | None:
    record = newest_record(records, row.job, libraries)
    if record is None:
        return None
    return VirtualFigure(
        libraries=libraries.name,
        value_bytes=read_figure(record, row.figure) if record.outcome.status is OutcomeStatus.OK else None,
        published_bytes=row.measurement.value_bytes,
        outcome=str(record.outcome.status),
    )


def _is_within(value: Fraction, bar: Fraction | None) -> bool:
    return bar is None or value <= bar
