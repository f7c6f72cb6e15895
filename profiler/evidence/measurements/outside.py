"""What a process holds on a card besides what torch's allocator reserved: how much, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from profiler.evidence.measurements.published import published_dir, to_bytes
from profiler.hardware.sheet import Generation
from profiler.jobs.load import read_yaml_as
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _read_size(value: object) -> object:
    if not isinstance(value, str):
        return value
    number, _, unit = value.partition(" ")
    return to_bytes(number, unit)


Size = Annotated[int, Field(ge=0), BeforeValidator(_read_size)]
Text = Annotated[str, Field(min_length=1), BeforeValidator(str)]


class Reading(Value):
    """What one process held, as its out-of-memory message said.

    Attributes:
        gpu: the card, as published.
        generation: its architecture.
        num_sms: its streaming multiprocessors, by NVIDIA's data sheet.
        in_use: all that the process held, in bytes.
        allocated: of it, by torch's live tensors; or, where `is_virtual`, all that a virtual card of the same
            kind reserved for the same job with the same libraries.
        unallocated: of it, reserved by torch's allocator besides.
        is_virtual: whether what torch held is a virtual figure; all others were published.
        source: the thread it was published in.
        date: of that message.
    """

    gpu: Text
    generation: Generation
    num_sms: Annotated[int, Field(gt=0)]
    in_use: Size
    allocated: Size
    unallocated: Size
    is_virtual: bool = False
    source: Text
    date: Text

    @property
    def outside_bytes(self) -> int:
        """What lay outside torch's allocator; good to about 15 MiB, as the messages round to 0.01 GiB."""
        return self.in_use - self.allocated - self.unallocated


class LeftOut(Value):
    """A published figure that is not used, and why."""

    source: Text
    reason: Text


class OutsideReadings(Value):
    """The whole file."""

    readings: Annotated[tuple[Reading, ...], Field(min_length=2)]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a card holds outside the allocator while a job runs, in bytes.

    Attributes:
        low_bytes: as far below the typical figure as any reading lies below the line through all.
        typical_bytes: the median of the chip's own readings; on the line where it has none.
        high_bytes: as far above it as any reading lies above the line.
        reason: where the figures come from.
    """

    low_bytes: int
    typical_bytes: int
    high_bytes: int
    reason: str


def load_outside(path: Path | None = None) -> OutsideReadings:
    """Reads the published readings.

    Args:
        path: a file like `configs/published/outside.yaml`, which is the default.

    Raises:
        ConfigError: if the file is not understood.
    """
    return read_yaml_as(path or published_dir() / "outside.yaml", OutsideReadings)


def outside_of(num_sms: int, generation: Generation, readings: Sequence[Reading]) -> Outside:
    """What lies outside the allocator on a card with so many multiprocessors of a generation.

    Cards with as many multiprocessors of the same generation have the same chip: the median of their
    readings. Others take their figure from a straight line through all readings, by least squares: the
    context grows with the multiprocessors, each of which has its own local memory and stack. About that line
    neither the generation nor the version of CUDA, which few of the threads name, shows.
    """
    base, slope = _line([(reading.num_sms, reading.outside_bytes) for reading in readings])
    residuals = [reading.outside_bytes - (base + slope * reading.num_sms) for reading in readings]
    own = [item for item in readings if (item.num_sms, item.generation) == (num_sms, generation)]
    if own:
        typical = Fraction(median(item.outside_bytes for item in own))
        reason = f"the median of {len(own)} readings of its chip"
    else:
        typical = base + slope * num_sms
        reason = f"a line through {len(readings)} readings of other chips, by the number of multiprocessors"
    return Outside(
        low_bytes=max(0, round(typical + min(residuals))),
        typical_bytes=round(typical),
        high_bytes=round(typical + max(residuals)),
        reason=reason,
    )


def _line(points: Sequence[tuple[int, int]]) -> tuple[Fraction, Fraction]:
    """Intercept and slope of the least-squares line, exactly."""
    num = len(points)
    mean_x, mean_y = Fraction(sum(x for x, _ in points), num), Fraction(sum(y for _, y in points), num)
    spread = sum(((x - mean_x) ** 2 for x, _ in points), start=Fraction())
    slope = sum(((x - mean_x) * (y - mean_y) for x, y in points), start=Fraction()) / spread
    return mean_y - slope * mean_x, slope
