"""The file of a derived formula: JSON that a person can read, compressed.

What it says of itself: which model and job it is of, the versions and the card it was derived with, where it
holds and how that was checked. What it computes with: sizes (`sizes`), whose blocks they are, and the bodies
that phases are made of (`program`), each written once.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from profiler.errors import ConfigError
from profiler.files import reason_of
from profiler.records.schema import Bytes, Count, PhaseName
from profiler.values import Value

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES = 64 << 20
"""Of a file once it is unpacked; those of the largest models have some hundred KiB."""

Index = Annotated[int, Field(ge=0, lt=1 << 20, strict=True)]
Text = Annotated[str, Field(max_length=MAX_FILE_BYTES)]


class Span(Value):
    """Where a regime was seen to hold: in a row of batches, from one size to another.

    Attributes:
        batch: batches of one row, or of more: masks and attention are handled otherwise.
        first: tokens of the smallest batch at which it was seen.
        last: tokens of the largest one.
        regime: its number.
    """

    batch: Literal["one", "more"]
    first: Count
    last: Count
    regime: Index


class Phase(Value):
    """What happens in a phase of a run: the body of that number."""

    name: PhaseName
    step: Count | None = None
    body: Index


class Regime(Value):
    """What a run does where the regime holds, phase by phase."""

    phases: tuple[Phase, ...]


class Check(Value):
    """A run that the formula was not made from, and how far off it was: the run's figure less its own."""

    batch_size: Count
    seq_len: Count
    allocated_bytes: Bytes
    allocated_difference_bytes: int
    reserved_bytes: Bytes
    reserved_difference_bytes: int


class DerivedOn(Value):
    """The card of the runs, which was a virtual one."""

    id: str
    compute_capability: str
    num_sms: Count


class DerivedFile(Value):
    """A derived formula.

    Attributes:
        key: of the job without its variables, and the model's config (`identity.derived_key`).
        model: as the job named it.
        job: what the job asks for, without its variables.
        versions: of the libraries it was derived with.
        card: the card it was derived on.
        num_runs: how many runs it was derived from.
        checks: at points it was not derived from.
        spans: which regime holds where.
        regimes: by number.
        sizes: what requests ask for (`sizes.parse_size`).
        owners: whose blocks those are: the part of a run, and the name in the model.
        bodies: what happens in phases (`program.read_body`).
    """

    format: Literal["peakvram-derived-1"] = "peakvram-derived-1"
    key: str
    model: str
    job: dict[str, object]
    versions: dict[str, str | None]
    card: DerivedOn
    num_runs: Count
    checks: tuple[Check, ...]
    spans: tuple[Span, ...]
    regimes: tuple[Regime, ...]
    sizes: tuple[Text, ...]
    owners: tuple[tuple[str, str], ...]
    bodies: tuple[Text, ...]


def pack_derived(derived: DerivedFile) -> bytes:
    """The file, compressed; the same formula gives the same bytes."""
    return gzip.compress((derived.model_dump_json(indent=1) + "\n").encode(), mtime=0)


def read_derived(path: Path) -> DerivedFile:
    """Reads a file, anybody's.

    Raises:
        ConfigError: it cannot be read, is torn, or is no derived formula.
    """
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = reason_of(error) if isinstance(error, OSError) and error.strerror else "it is torn"
        raise ConfigError(f"cannot read {path}: {reason}", hint="remove it: it is derived anew") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is no derived formula: it is too large", hint="remove it")
    try:
        return DerivedFile.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{path} is no derived formula: {place}: {first['msg'].lower()}", hint="remove it"
        ) from None
