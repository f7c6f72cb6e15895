"""Where derived formulas are kept: those shipped with the package, and those that were derived here."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.formula.configs import config_of
from profiler.formula.derived.identity import SUFFIX, derived_key
from profiler.jobs.job import Inference
from profiler.process.environment import library_versions
from profiler.resources import configs_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from profiler.formula.derived.evaluate import DerivedFormula
    from profiler.formula.derived.file import DerivedFile
    from profiler.jobs.job import JobSpec

_NUM_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What there is for a job.

    Attributes:
        formula: the one that is nearest; None where there is none.
        notes: how it differs from what is installed and asked for, and which files could not be read.
    """

    formula: DerivedFormula | None = None
    notes: tuple[str, ...] = ()


def cache_dir() -> Path:
    """Where formulas go that are derived here: `peakvram/derived` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "peakvram" / "derived"


def shipped_dir() -> Path:
    """Those of the package."""
    return configs_dir() / "derived"


def file_name(file: DerivedFile, kind: str) -> str:
    """The name of a formula's file: model, method, card, key and versions."""
    model = Path(file.model).name or "model"
    return f"{model}--{kind}--{file.card.id}--{file.key}--{versions_digest(file.versions)}{SUFFIX}"


def versions_digest(versions: Mapping[str, str | None]) -> str:
    """The first 8 hex digits of the SHA-256 of versions of the libraries."""
    canonical = json.dumps(dict(versions), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_NUM_DIGITS]


def can_be_derived(job: JobSpec) -> bool:
    """Whether a formula can be derived for such a job."""
    return why_not_derived(job) is None


def why_not_derived(job: JobSpec) -> str | None:
    """Why no formula can be derived for such a job; None where one can."""
    if isinstance(job.method, Inference):
        return "formulas are derived for jobs that train"
    if job.steps == 1 and (job.eval_batches or job.save):
        # The first step makes more than those that follow, after which evaluation and saving are seen.
        return "what comes after a single step is not derived"
    return None


def find_derived(job: JobSpec, *, card_id: str) -> Shelf:
    """The derived formula that serves a job: of its card and the installed versions, else the nearest.

    Args:
        job: the job; nothing is fetched for it.
        card_id: the card it is to run on.
    """
    paths = files_for(job, card_id=card_id)
    if not paths:
        return Shelf()
    from profiler.formula.derived.evaluate import DerivedFormula  # noqa: PLC0415 - few jobs have a formula yet
    from profiler.formula.derived.file import read_derived  # noqa: PLC0415 - as above

    notes: list[str] = []
    installed = library_versions()
    for path in paths:
        try:
            file = read_derived(path)
        except ConfigError as error:
            notes.append(f"{error.message}; the estimate goes on without it")
            continue
        if f"--{file.key}--" not in path.name:
            notes.append(f"{path} is of another job than its name says; the estimate goes on without it")
            continue
        return Shelf(formula=DerivedFormula(file), notes=(*notes, *_differences(file, card_id, installed)))
    return Shelf(notes=tuple(notes))


def files_for(job: JobSpec, *, card_id: str) -> list[Path]:
    """Files that may serve a job, the nearest first: right in card and versions, in versions, in the card."""
    config = config_of(job.model, weights=job.weights, revision=job.revision, may_fetch=False)
    if config is None or not can_be_derived(job):
        return []
    key, digest = derived_key(job, config), versions_digest(library_versions())
    places = (cache_dir(), shipped_dir())
    found = [path for place in places for path in sorted(place.glob(f"*--{key}--*{SUFFIX}"))]

    def distance(path: Path) -> int:
        has_versions = path.name.endswith(f"--{digest}{SUFFIX}")
        has_card = f"--{card_id}--{key}--" in path.name
        return (not has_versions) * 2 + (not has_card)

    return sorted(found, key=distance)


def _differences(file: DerivedFile, card_id: str, installed: Mapping[str, str | None]) -> Iterator[str]:
    other = [
        f"{name} {file.versions[name]} (here {version})"
        for name, version in installed.items()
        if version is not None and file.versions.get(name) not in (None, version)
    ]
    if other:
        yield f"derived with {', '.join(other)}: other versions may take other bytes"
    if file.card.id != card_id:
        yield f"derived on a virtual {file.card.id}: on {card_id} kernels may take other temporaries"
