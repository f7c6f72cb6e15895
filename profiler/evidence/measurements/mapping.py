"""Which job stands for a published row, and what is compared: data, read and checked row by row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from profiler.errors import ConfigError
from profiler.evidence.measurements.figures import COMPARABLE, RecordFigure
from profiler.evidence.measurements.published import Grade, Metric, published_dir
from profiler.jobs.load import job_from, read_yaml_as
from profiler.jobs.problems import nearest_hint
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from profiler.evidence.measurements.published import Measurement
    from profiler.jobs.job import JobSpec

Text = Annotated[str, Field(strict=True, min_length=1)]


class JobEntry(Value):
    """Rows that one run gave, and the job that stands for it.

    Attributes:
        rows: the ids of the rows.
        job: its keys, which take the place of those of the source's `base`.
        environment: the file of library versions in `environments/`; empty where only today's are run.
        differs: notes that hold for this job besides those of its source.
        because: why a row's figure differs, by row id, with the environment's libraries.
    """

    rows: Annotated[tuple[Text, ...], Field(min_length=1)]
    job: dict[str, object] = Field(default_factory=dict)
    environment: str = ""
    differs: tuple[Text, ...] = ()
    because: dict[str, Text] = Field(default_factory=dict)


class RefusedEntry(Value):
    """Rows that no job can stand for, and why."""

    rows: Annotated[tuple[Text, ...], Field(min_length=1)]
    reason: Text


class SourceEntry(Value):
    """What one source's rows are mapped to.

    Attributes:
        title: who published it.
        compare: the figure of a record that each metric is compared with.
        read: how the source read its figures, in words.
        base: what all its jobs share.
        differs: notes on the set-up that hold for all of them.
        because_current: why figures differ with the libraries installed here, by metric.
        jobs: the mapped rows.
        refused: the others.
    """

    title: Text
    read: Text = "-"
    compare: dict[Metric, RecordFigure] = Field(default_factory=dict)
    base: dict[str, object] = Field(default_factory=dict)
    differs: tuple[Text, ...] = ()
    because_current: dict[Metric, Text] = Field(default_factory=dict)
    jobs: tuple[JobEntry, ...] = ()
    refused: tuple[RefusedEntry, ...] = ()


class MappingFile(Value):
    """The whole file: notes by name, and the sources."""

    notes: dict[str, Text] = Field(default_factory=dict)
    sources: dict[str, SourceEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedRow:
    """A published figure and what it is compared with.

    Attributes:
        measurement: the figure.
        job: the job that stands for it.
        figure: the figure of a record of that job.
        environment: the file of library versions; empty where only today's are run.
        differs: how the job's set-up differs from the published one, in words.
        because: why the figures differ with the environment's libraries; empty where they agree.
        because_current: the same with the libraries installed here.
    """

    measurement: Measurement
    job: JobSpec
    figure: RecordFigure
    environment: str
    differs: tuple[str, ...]
    because: str
    because_current: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A published figure that no job stands for, and why."""

    measurement: Measurement
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """Every row of grade A or B, mapped or refused.

    Attributes:
        titles: who published each source, by its short name.
        read: how each source read its figures.
    """

    rows: tuple[MappedRow, ...]
    refused: tuple[RefusedRow, ...]
    titles: Mapping[str, str]
    read: Mapping[str, str]


def load_mapping(measurements: Mapping[str, Measurement], path: Path | None = None) -> Mapped:
    """Reads and checks the mapping of the published table.

    Args:
        measurements: the published table.
        path: a file like `configs/published/mapping.yaml`, which is the default.

    Raises:
        ConfigError: if the file is not understood, names a row twice or one that is not there, leaves out a
            row of grade A or B, or compares a metric with a figure of another kind.
    """
    path = path or published_dir() / "mapping.yaml"
    tree = read_yaml_as(path, MappingFile)
    _check_coverage(tree, measurements, source=str(path))
    rows = tuple(_mapped_rows(tree, measurements, source=str(path)))
    refused = tuple(
        RefusedRow(measurement=measurements[row], reason=refusal.reason)
        for part in tree.sources.values()
        for refusal in part.refused
        for row in refusal.rows
    )
    return Mapped(
        rows=rows,
        refused=refused,
        titles={name: part.title for name, part in tree.sources.items()},
        read={name: part.read for name, part in tree.sources.items()},
    )


def _check_coverage(tree: MappingFile, measurements: Mapping[str, Measurement], *, source: str) -> None:
    entries: list[JobEntry | RefusedEntry] = []
    for part in tree.sources.values():
        entries += [*part.jobs, *part.refused]
    named = Counter(row for entry in entries for row in entry.rows)
    for row, number in named.items():
        if row not in measurements:
            raise ConfigError(f"{source}: there is no row {row}", hint=nearest_hint(row, list(measurements)))
        if number > 1:
            raise ConfigError(f"{source}: row {row} is named {number} times", hint="name it once")
    wanted = [row.id for row in measurements.values() if row.grade is not Grade.C]
    missing = [row for row in wanted if row not in named]
    if missing:
        hint = "map each to a job, or refuse it with a reason"
        raise ConfigError(f"{source}: {len(missing)} rows are not there: {', '.join(missing[:5])}", hint=hint)


def _mapped_rows(
    tree: MappingFile, measurements: Mapping[str, Measurement], *, source: str
) -> Iterator[MappedRow]:
    for name, part in tree.sources.items():
        for entry in part.jobs:
            where = f"{source}: {name}: {entry.rows[0]}"
            job = job_from({**part.base, **entry.job}, source=where)
            differs = tuple(_note(tree, note, where=where) for note in (*part.differs, *entry.differs))
            for row in entry.rows:
                measurement = measurements[row]
                yield MappedRow(
                    measurement=measurement,
                    job=job,
                    figure=_figure(part, measurement, where=f"{source}: {row}"),
                    environment=entry.environment,
                    differs=differs,
                    because=entry.because.get(row, ""),
                    because_current=part.because_current.get(measurement.metric, ""),
                )


def _note(tree: MappingFile, note: str, *, where: str) -> str:
    if note not in tree.notes:
        raise ConfigError(f"{where}: there is no note {note!r}", hint=nearest_hint(note, list(tree.notes)))
    return tree.notes[note]


def _figure(part: SourceEntry, measurement: Measurement, *, where: str) -> RecordFigure:
    """The figure the source's metric is compared with, which has to be one of the same quantity."""
    metric = measurement.metric
    if metric not in part.compare:
        raise ConfigError(f"{where}: {metric.value!r} is compared with nothing", hint="refuse the row")
    figure = part.compare[metric]
    if figure not in COMPARABLE[metric]:
        allowed = ", ".join(sorted(COMPARABLE[metric])) or "nothing"
        raise ConfigError(
            f"{where}: {metric.value!r} cannot be compared with {figure.value!r}", hint=f"only with {allowed}"
        )
    return figure
