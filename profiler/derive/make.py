"""Deriving the formula of a job and keeping it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.derive.derive import derive
from profiler.derive.regimes import SHORTEST
from profiler.derive.runs import PointRuns
from profiler.errors import ConfigError
from profiler.estimate.card import card_of
from profiler.files import write_file
from profiler.formula.configs import config_of
from profiler.formula.derived.file import DerivedFile, pack_derived
from profiler.formula.derived.identity import derived_key
from profiler.formula.derived.shelf import cache_dir, file_name, why_not_derived
from profiler.formula.images import least_tokens
from profiler.formula.runnable import check_runnable, max_seq_len
from profiler.hardware.catalogue import load_catalogue
from profiler.process.environment import library_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from profiler.derive.observe import Point
    from profiler.jobs.job import JobSpec

DEFAULT_CARD = "rtx-4090"
"""The card of a job whose own is none of the catalogue."""
_MOST_POSITIONS = 131_072
_POSITIONS_OF_T5 = 2048
"""Its positions are relative to each other: it is trained on longer rows than the 512 it was made for."""
_USUAL_POSITIONS = 32_768
"""How long rows may get of a model whose config does not say how long it was made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A formula, and where it is kept."""

    file: DerivedFile
    path: Path


def make_derived(
    spec: JobSpec,
    *,
    longest: int | None = None,
    num_workers: int | None = None,
    directory: Path | None = None,
    on_run: Callable[[Point], None] = lambda _: None,
) -> Derived:
    """Derives the formula of a job and writes it.

    Args:
        spec: the job; its batch does not matter.
        longest: the longest row of tokens to look at; the model's own positions if None.
        num_workers: runs at a time; None for one a core.
        directory: where to; None for the user's cache.
        on_run: told of each run that has ended.

    Raises:
        CannotFollowError: the job does what no formula can say.
        ConfigError: it cannot run, or trains nothing.
        EnvironmentUnfitError: it cannot run here, or the file cannot be written.
    """
    if (reason := why_not_derived(spec)) is not None:
        raise ConfigError(reason, hint="`peakvram run` runs the job")
    config = config_of(spec.model, weights=spec.weights, revision=spec.revision)
    assert config is not None, "it may be fetched"
    shortest = spec.model_copy(update={"batch_size": 1, "seq_len": shortest_row(spec, config)})
    check_runnable(shortest)
    card_id = _card_of(spec)
    limit = longest or positions_of(shortest)
    with PointRuns(spec.model_copy(update={"gpu": card_id}), num_workers=num_workers, on_run=on_run) as runs:
        file = derive(
            runs,
            key=derived_key(spec, config),
            shortest=shortest.seq_len,
            longest=limit,
            versions=library_versions(),
        )
    path = (directory or cache_dir()) / file_name(file, spec.method.kind)
    write_file(path, pack_derived(file))
    return Derived(file=file, path=path)


def _card_of(spec: JobSpec) -> str:
    card_id = card_of(spec).id
    return card_id if card_id in load_catalogue() else DEFAULT_CARD


def shortest_row(spec: JobSpec, config: Mapping[str, object]) -> int:
    """The shortest row to look at: of few tokens, or of as many as a job's images take.

    Raises:
        ConfigError: what the model makes of images is not followed.
    """
    return max(SHORTEST, -(-least_tokens(spec, config) // 4 * 4) if spec.has_images else 0)


def positions_of(spec: JobSpec) -> int:
    """The longest row that a job's model takes, or was made for."""
    config = config_of(spec.model, weights=spec.weights, revision=spec.revision)
    assert config is not None, "it may be fetched"
    table = max_seq_len(spec)
    if table is not None:
        return table
    text = config.get("text_config", config)
    made_for = text.get("max_position_embeddings") if isinstance(text, dict) else None
    if made_for is None and "n_positions" in config:
        return _POSITIONS_OF_T5
    return min(made_for, _MOST_POSITIONS) if isinstance(made_for, int) else _USUAL_POSITIONS
