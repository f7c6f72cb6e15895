"""Which claims about GPU memory others have published, and what each is checked by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from profiler.errors import ConfigError
from profiler.evidence.claims.arithmetic import Calculation
from profiler.evidence.claims.figures import ClaimFigure, Compare
from profiler.jobs.load import read_yaml
from profiler.jobs.problems import nearest_hint
from profiler.resources import configs_dir
from profiler.units import parse_bytes
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Checked = TypeVar("Checked")

DEFAULT_TOLERANCE = 0.1
"""How far outside a claim a figure may lie, as a share of the claim, before the claim is wrong: authors say
`~14 GB`, count 7 billion parameters where there are 6.7, and GB where they mean GiB (7 % apart)."""
GRIDS_NAME = "grids"
_GUIDE = "docs/claims.md says what a file of claims holds"
_FITS: Mapping[str, float] = {"fits": 0.0, "does not fit": 1.0}


def _read_bound(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _read_claimed(value: object) -> object:
    """`15GB`, `[14GB, 15GB]`, `[80GB, null]`, `2`, `[2, 3]`, `fits` or `does not fit`."""
    if isinstance(value, str) and value in _FITS:
        return {"low": _FITS[value], "high": _FITS[value]}
    if isinstance(value, list) and len(value) == 2:
        return {"low": value[0], "high": value[1]}
    if isinstance(value, list):
        raise ValueError("a range has two ends: [LOW, HIGH], null for an open one")
    return value if isinstance(value, dict | Claimed) else {"low": value, "high": value}


Bound: TypeAlias = Annotated[
    int | float | None, Field(ge=0, allow_inf_nan=False), BeforeValidator(_read_bound)
]
Text: TypeAlias = Annotated[str, Field(min_length=1)]


class Claimed(Value):
    """What an author says a quantity is, in the unit of the evidence; an end of None is open.

    Sizes are whole bytes (a text such as `15GB` in a file), all else a number. Whether a job fits is 0 for
    `fits` and 1 for `does not fit`.
    """

    low: Bound = None
    high: Bound = None


class Runs(Value):
    """Evidence by jobs on a virtual card.

    Attributes:
        kind: the kind of evidence.
        grid: the jobs, by the name of a shared grid (`configs/claims/grids.yaml`).
        set: what all of them are set to instead, by dotted key.
        axes: settings swept besides, by dotted key.
        figure: what is read from the record of each.
        compare: what becomes of the figures of a job and its counterpart; None for the job's alone.
        against: what the counterpart differs in, by dotted key.
    """

    kind: Literal["runs"] = "runs"
    grid: Text
    set: dict[str, object] = Field(default_factory=dict)
    axes: dict[str, tuple[object, ...]] = Field(default_factory=dict)
    figure: ClaimFigure
    compare: Compare | None = None
    against: dict[str, object] = Field(default_factory=dict)


class Arithmetic(Value):
    """Evidence by arithmetic: one of a few named calculators, its arguments swept where they are lists."""

    kind: Literal["arithmetic"] = "arithmetic"
    calculator: Calculation
    arguments: dict[str, object]


class Unchecked(Value):
    """No evidence, and why there is none."""

    kind: Literal["none"] = "none"
    reason: Text


Evidence: TypeAlias = Annotated[Runs | Arithmetic | Unchecked, Field(discriminator="kind")]


class Claim(Value):
    """One claim.

    Attributes:
        id: lower-case letters, digits, dots and dashes; unique among all documents.
        quote: the author's own words, exact but for white space.
        place: where they stand, if the words alone do not say what they are about.
        says: what is claimed, in our words.
        assumes: what the author leaves open and how it is read here.
        claimed: the range claimed; None only where it is not checked.
        tolerance: how far outside it a figure may lie, as a share of the claim.
        evidence: what it is checked by.
        note: what explains the outcome.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    quote: Text
    place: str = ""
    says: Text
    assumes: str = ""
    claimed: Annotated[Claimed, BeforeValidator(_read_claimed)] | None = None
    tolerance: Annotated[float, Field(ge=0, le=1)] = DEFAULT_TOLERANCE
    evidence: Evidence
    note: str = ""


class Document(Value):
    """A document and the claims in it; `id` is the name of its file."""

    id: Text
    title: Text
    author: Text
    published: Text
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]


class JobGrid(Value):
    """Jobs that several claims are checked by: the settings that authors leave open, over a plausible range.

    Attributes:
        about: which jobs they are, for a reader.
        base: what every job says.
        axes: the settings swept, all combined.
        zip: settings that advance together, one more axis.
    """

    about: Text
    base: dict[str, object]
    axes: dict[str, tuple[object, ...]] = Field(default_factory=dict)
    zip: dict[str, tuple[object, ...]] = Field(default_factory=dict)


class ClaimSet(Value):
    """All documents, and the grids of jobs they share."""

    documents: tuple[Document, ...]
    grids: dict[str, JobGrid]

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims of all documents."""
        return tuple(claim for document in self.documents for claim in document.claims)

    def document(self, document_id: str) -> Document:
        """One of the documents.

        Raises:
            ConfigError: if there is none of this id; the hint names the nearest.
        """
        by_id = {document.id: document for document in self.documents}
        if document_id not in by_id:
            raise ConfigError(
                f"there is no document {document_id!r}", hint=nearest_hint(document_id, [*by_id])
            )
        return by_id[document_id]


def load_claims(directory: Path | None = None) -> ClaimSet:
    """Reads the claims of a directory, `configs/claims` if none is named: a file a document, and the grids.

    Raises:
        ConfigError: if a file is no such thing, or two claims share an id; it names the file and the place.
    """
    directory = directory or configs_dir() / "claims"
    grids_path = directory / f"{GRIDS_NAME}.yaml"
    grids = _read(grids_path, dict[str, JobGrid])
    paths = sorted(path for path in directory.glob("*.yaml") if path != grids_path)
    documents = tuple(_read(path, Document, id=path.stem) for path in paths)
    _check_ids(documents, directory=directory)
    return ClaimSet(documents=documents, grids=grids)


def _read(path: Path, kind: type[Checked], **defaults: str) -> Checked:
    try:
        return TypeAdapter(kind).validate_python({**defaults, **read_yaml(path)})
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        more = f" (and {len(others)} more)" if others else ""
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}: {where}: {problem}{more}", hint=_GUIDE) from None


def _check_ids(documents: tuple[Document, ...], *, directory: Path) -> None:
    owners: dict[str, str] = {}
    for document in documents:
        for claim in document.claims:
            owner = owners.setdefault(claim.id, document.id)
            if owner != document.id or sum(claim.id == other.id for other in document.claims) > 1:
                raise ConfigError(f"{directory}: two claims are called {claim.id!r}", hint="rename one")
