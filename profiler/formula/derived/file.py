"""The file of a derived formula: JSON that a person can read, compressed.

What it says of itself: which model and job it is of, the versions and the card it was derived with, where it
holds and how that was checked. What it computes with: sizes (`sizes`), whose blocks they are, and the bodies
that phases are made of (`program`), each written once.
"""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar

from pydantic import FailFast, Field, ValidationError

from profiler.errors import ConfigError
from profiler.files import reason_of
from profiler.formula.derived.sizes import parse_size
from profiler.records.schema import CLOSING_PHASES, Count, MicroStep, PhaseName, PhasePlace
from profiler.values import MAX_INT, Value

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES = 16 << 20
"""Of a file once it is unpacked; those of the largest models have some hundred KiB."""
_MOST_PHASES = 1 << 12
_MOST_SIZES = 1 << 12
_MOST_SIZE_CHARACTERS = 1 << 14
_ALWAYS = {(PhaseName.LOAD, None), (PhaseName.FORWARD, 0), (PhaseName.BACKWARD, 0)}
"""Phases of every run that trains."""
_MOST_SEEN = 4096

Index = Annotated[int, Field(ge=0, lt=1 << 20, strict=True)]
PeakBytes = Annotated[int, Field(ge=1, le=MAX_INT, strict=True)]
Difference = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT, strict=True)]
Item = TypeVar("Item")
Row: TypeAlias = Annotated[tuple[Item, ...], FailFast()]
"""Of anybody's file: read no further than what is wrong in it."""
SizeText = Annotated[str, Field(max_length=_MOST_SIZE_CHARACTERS)]


class Seen(Value):
    """A run that the formula was derived from: its batch, and the number of the regime it was of."""

    batch_size: Annotated[int, Field(ge=1, le=MAX_INT, strict=True)]
    seq_len: Annotated[int, Field(ge=1, le=MAX_INT, strict=True)]
    regime: Index

    @property
    def tokens(self) -> int:
        """Tokens of the batch."""
        return self.batch_size * self.seq_len


class Phase(Value):
    """What happens in a phase of a run: the body of that number."""

    name: PhaseName
    step: Count | None = None
    micro_step: MicroStep = None
    body: Index

    @property
    def place(self) -> PhasePlace:
        """Which phase it is."""
        return PhasePlace(self.name, self.step, self.micro_step)


class Regime(Value):
    """What a run does where the regime holds, phase by phase."""

    phases: Annotated[Row[Phase], Field(max_length=_MOST_PHASES)]


class CheckedRun(Value):
    """A run that the formula was not made from, and how far off it was: the run's figure less its own."""

    batch_size: Count
    seq_len: Count
    allocated_bytes: PeakBytes
    allocated_difference_bytes: Difference
    reserved_bytes: PeakBytes
    reserved_difference_bytes: Difference


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
        seen: the runs it was derived from, which say which regime holds where.
        multiple: of which round lengths are one, where they are apart (`kinds`).
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
    checks: Row[CheckedRun]
    seen: Annotated[Row[Seen], Field(max_length=_MOST_SEEN)]
    multiple: Annotated[int, Field(ge=1, le=1 << 12, strict=True)] = 1
    regimes: Row[Regime]
    sizes: Annotated[Row[SizeText], Field(max_length=_MOST_SIZES)]
    owners: Row[tuple[str, str]]
    bodies: Row[str]


def pack_derived(derived: DerivedFile) -> bytes:
    """The file, compressed; the same formula gives the same bytes."""
    left_out = {"multiple"} if derived.multiple == 1 else None
    return gzip.compress((derived.model_dump_json(indent=1, exclude=left_out) + "\n").encode(), mtime=0)


def read_derived(path: Path) -> DerivedFile:
    """Reads a file, anybody's.

    Raises:
        ConfigError: it cannot be read, is torn, or is no derived formula.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ConfigError(f"cannot read {path}: it is no file", hint="remove it: it is derived anew")
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = reason_of(error) if isinstance(error, OSError) and error.strerror else "it is torn"
        raise ConfigError(f"cannot read {path}: {reason}", hint="remove it: it is derived anew") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is no derived formula: it is too large", hint="remove it")
    try:
        derived = DerivedFile.model_validate_json(data)
        _check(derived)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{path} is no derived formula: {place}: {first['msg'].lower()}", hint="remove it"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} is no derived formula: {error}", hint="remove it") from None
    return derived


def _check(file: DerivedFile) -> None:
    """Looks at all that can be seen before a body is read, as of most files few are.

    Raises:
        ValueError: something refers to what is not there.
    """
    for size in file.sizes:
        parse_size(size)
    for regime in file.regimes:
        _check_regime(regime, num_bodies=len(file.bodies))
    if not file.seen:
        raise ValueError("it says of no batch what happens")
    if any(one.regime >= len(file.regimes) for one in file.seen):
        raise ValueError("a run is of a regime that is not there")


def _check_regime(regime: Regime, *, num_bodies: int) -> None:
    if any(phase.body >= num_bodies for phase in regime.phases):
        raise ValueError("a phase is of a body that is not there")
    if not {(phase.name, phase.step) for phase in regime.phases} >= _ALWAYS:
        raise ValueError("phases of a run are missing")
    is_closing = [phase.name in CLOSING_PHASES for phase in regime.phases]
    if is_closing != sorted(is_closing):
        raise ValueError("a run goes on after its end")
    before = regime.phases[: len(is_closing) - sum(is_closing)]
    steps = [-1 if phase.step is None else phase.step for phase in before]
    if any(later - step not in (0, 1) for step, later in pairwise(steps)):
        raise ValueError("the steps of a run are not in order")
