"""What a factor file says: how much of each term to believe, and how far off the sum still is."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import AwareDatetime, Field, ValidationError

from profiler.errors import ConfigError
from profiler.files import reason_of, write_file
from profiler.resources import configs_dir
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TypeVar

    from profiler.jobs.job import JobSpec

    Placed = TypeVar("Placed", "FactorGroup", "IntervalGroup")

SCHEMA_VERSION: Final[Literal[1]] = 1

Condition: TypeAlias = Literal["method", "checkpointing", "attention"]
"""What a group of jobs may share: the method's kind, whether blocks are recomputed, the attention."""
Where: TypeAlias = dict[Condition, str | bool]
"""The jobs of a group, such as `{"method": "lora", "checkpointing": true}`; empty is every job."""
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Factor(Value):
    """What a term is multiplied by.

    Attributes:
        value: the factor; 1.0 where the records do not determine it.
        low: the low end of its 90 % interval, from resampling whole models.
        high: the high end.
        status: `fitted`, or `undetermined`: the records cannot tell it, and it is left at 1.0.
        reason: why it is undetermined; empty for a fitted one.
    """

    value: NotNegative
    low: NotNegative
    high: NotNegative
    status: Literal["fitted", "undetermined"] = "fitted"
    reason: str = ""


class FactorGroup(Value):
    """Factors of one group of jobs.

    Attributes:
        where: which jobs.
        factors: by term, all terms of the formula that its jobs have.
        num_records: how many records they were fitted on.
        num_models: of how many models those are.
    """

    where: Where
    factors: dict[str, Factor]
    num_records: Annotated[int, Field(ge=0)]
    num_models: Annotated[int, Field(ge=0)]


class IntervalGroup(Value):
    """How far the figure of a job of one group may be from the corrected value.

    Attributes:
        where: which jobs.
        low: 5 % of the records of models that the factors never saw were below this share of their value.
        high: 5 % were above this one.
        num_records: how many such records there were.
    """

    where: Where
    low: Positive
    high: Positive
    num_records: Annotated[int, Field(ge=0)]


class Correction(Value):
    """The corrections that lead to one figure; of each list the most specific group that matches applies.

    Attributes:
        factors: factors by group; the first group is every job.
        intervals: intervals of the figure, relative to its value, by group; the first group is every job.
        reason: why the factors are grouped as they are.
    """

    factors: Annotated[tuple[FactorGroup, ...], Field(min_length=1)]
    intervals: Annotated[tuple[IntervalGroup, ...], Field(min_length=1)]
    reason: str = ""


class FormulaFactors(Value):
    """The corrections of one formula.

    Attributes:
        allocated: factors of the formula's own terms, at every instant; the largest instant is the peak.
        reserved_gap: factors of what reserved memory has on top of allocated (`profiler.estimate.apply` says
            of what); its intervals are of reserved memory as a whole. None where no record tells.
        device_gap: factors of what the card shows as used on top of reserved memory; its intervals are of
            device use as a whole. None where no record tells.
    """

    allocated: Correction
    reserved_gap: Correction | None = None
    device_gap: Correction | None = None


class FittedOn(Value):
    """The records behind a factor file.

    Attributes:
        device_kinds: `virtual`, `real`, or both where that was asked for.
        studies: names of the studies.
        num_records: how many records were used.
        keys_sha256: SHA-256 of their keys and fingerprints, a line each, sorted: the same digest, the same
            records.
        models: ids of their models.
        cards: ids of their cards.
        versions: versions by library.
    """

    device_kinds: Annotated[tuple[Literal["real", "virtual"], ...], Field(min_length=1)]
    studies: tuple[str, ...]
    num_records: int
    keys_sha256: str
    models: tuple[str, ...]
    cards: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]


class FactorFile(Value):
    """All that one fit found, by formula id."""

    schema_version: Literal[1]
    created_at: AwareDatetime
    fitted_on: FittedOn
    formulas: dict[str, FormulaFactors]


@cache
def default_factors() -> FactorFile:
    """The shipped factors, `configs/factors.json`.

    Raises:
        ConfigError: if the installation lacks them.
    """
    return read_factors(configs_dir() / "factors.json")


def read_factors(path: Path) -> FactorFile:
    """Reads a factor file.

    Raises:
        ConfigError: if it cannot be read or is no such file; it says where in the file.
    """
    try:
        return FactorFile.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "`peakvram fit` writes one"
        raise ConfigError(f"cannot read {path}: {reason_of(error)}", hint=hint) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", hint="`peakvram fit` writes factor files") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f" at {place}" if place else ""
        raise ConfigError(
            f"{path} is no factor file{where}: {first['msg'].lower()}",
            hint=f"this version reads schema version {SCHEMA_VERSION}, as `peakvram fit` writes it",
        ) from None


def write_factors(path: Path, factors: FactorFile) -> None:
    """Writes a factor file, whole or not at all; what is left out of it is as everywhere else.

    Raises:
        EnvironmentUnfitError: if it cannot be stored there.
    """
    write_file(path, factors.model_dump_json(indent=1, exclude_defaults=True) + "\n")


def round_factor(value: float) -> float:
    """A factor as a file has it: six digits, one byte in a million."""
    return float(f"{value:.6g}")


def conditions_of(job: JobSpec) -> Where:
    """What decides which groups a job belongs to."""
    return {
        "method": job.method.kind,
        "checkpointing": job.gradient_checkpointing.enabled,
        "attention": str(job.attention),
    }


def most_specific(groups: Sequence[Placed], conditions: Where) -> Placed:
    """The group with most conditions, all of which hold; of equals the first."""
    matching = [group for group in groups if group.where.items() <= conditions.items()]
    return max(matching, key=lambda group: len(group.where))
