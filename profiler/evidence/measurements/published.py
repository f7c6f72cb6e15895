"""Which figures of GPU memory others have published: who measured what, on which card, in bytes."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.files import reason_of
from profiler.resources import configs_dir
from profiler.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_UNITS = {"bytes": 1, "MiB": MIB, "GiB": GIB, "GB": 10**9}
"""The units of the published table: GB is 10^9 bytes there, the others are as everywhere."""


class Grade(StrEnum):
    """How much of a figure's set-up is known.

    `A`: all settings, script included. `B`: most of them. `C`: a headline, or a figure in doubt.
    """

    A = "A"
    B = "B"
    C = "C"


class Metric(StrEnum):
    """What was read on the real card, by its name in the published table."""

    MAX_ALLOCATED = "max_memory_allocated"
    MAX_RESERVED = "max_memory_reserved"
    ALLOCATED_END = "memory_allocated_end"
    NVIDIA_SMI = "nvidia_smi"
    ALLOCATED_STEP_END_MEAN = "memory_allocated_step_end_avg"
    RESERVED_STEP_END_MEAN = "memory_reserved_step_end_avg"
    PEAK_ACTIVE = "peak active (active_bytes.all.peak)"
    TORCHTUNE_STATS = "peak memory (torchtune get_memory_stats)"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One published figure of a real card.

    Attributes:
        id: its row's, such as `fms-007`; the part before the hyphen is the source's.
        repository: where it was published.
        path: the file in there, and the script that made it.
        commit: of that file, or the date of the page.
        model: the model's Hub id or name, as published.
        gpu: the card, as published.
        metric: what was read.
        value_bytes: the figure; a published unit is turned into bytes, rounded to a whole one.
        value_text: the figure as published, with its unit.
        grade: how much of the set-up is known.
        versions: of the libraries, as published.
        notes: how it was read.
        settings: every column of the row by its name, as published.
    """

    id: str
    repository: str
    path: str
    commit: str
    model: str
    gpu: str
    metric: Metric
    value_bytes: int
    value_text: str
    grade: Grade
    versions: str
    notes: str
    settings: Mapping[str, str]

    @property
    def source(self) -> str:
        """The short name of who published it, such as `fms`."""
        return self.id.partition("-")[0]


def published_dir() -> Path:
    """Where the published figures, their mapping and the environments are."""
    return configs_dir() / "published"


def load_measurements(path: Path | None = None) -> dict[str, Measurement]:
    """Every published figure by its id, in the table's order.

    Args:
        path: a table like `configs/published/measurements.csv`, which is the default.

    Raises:
        ConfigError: if the table cannot be read, or a row is not understood; it names the row.
    """
    path = path or published_dir() / "measurements.csv"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from None
    measurements: dict[str, Measurement] = {}
    for row in csv.DictReader(io.StringIO(text)):
        try:
            measurement = _read(row)
        except (KeyError, ValueError, AttributeError) as error:
            raise ConfigError(f"{path}: row {row.get('id')}: {error}") from None
        if measurement.id in measurements:
            raise ConfigError(f"{path}: row {measurement.id} is there twice")
        measurements[measurement.id] = measurement
    return measurements


def to_bytes(value: str, unit: str) -> int:
    """A published figure in bytes, rounded to a whole one: `("6.99", "GiB")` is 7505455350.

    Raises:
        ValueError: if the unit is none of the table's, or the value no number.
    """
    factor = _UNITS.get(unit)
    if factor is None:
        raise ValueError(f"{unit!r} is no unit of the table; it has {', '.join(_UNITS)}")
    return round(Fraction(value) * factor)


def _read(row: Mapping[str, str]) -> Measurement:
    value, unit = row["value"].strip(), row["unit"].strip()
    return Measurement(
        id=row["id"],
        repository=row["source_repo_or_url"],
        path=row["source_path"],
        commit=row["commit_or_date"],
        model=row["model_id"],
        gpu=row["gpu"],
        metric=Metric(row["metric"]),
        value_bytes=to_bytes(value, unit),
        value_text=f"{value.removesuffix('.0')} {unit}",
        grade=Grade(row["reproducibility"]),
        versions=row["framework_versions"],
        notes=row["notes"],
        settings=dict(row),
    )
