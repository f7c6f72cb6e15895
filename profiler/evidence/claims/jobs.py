"""Which jobs the claims are checked by, each once, and what sets those of one claim apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from profiler.errors import ConfigError
from profiler.evidence.claims.documents import Claim, JobGrid, Runs
from profiler.jobs.expansion import expand
from profiler.jobs.job import JobSpec
from profiler.jobs.load import set_value
from profiler.jobs.problems import describe_problem, nearest_hint
from profiler.jobs.settings import settings_of, varying_keys
from profiler.jobs.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SHORT_NAMES = {
    "gradient_checkpointing.enabled": "checkpointing",
    "gradient_checkpointing.reentrant": "reentrant",
    "seq_len": "tokens",
    "batch_size": "batch",
    "method.kind": "method",
}


def all_jobs(claims: Iterable[Claim], grids: Mapping[str, JobGrid]) -> tuple[JobSpec, ...]:
    """The jobs of some claims and their counterparts, each once, in the order they come up.

    Raises:
        ConfigError: if a claim's jobs are none.
    """
    jobs: dict[JobSpec, None] = {}
    for claim in claims:
        if isinstance(claim.evidence, Runs):
            own = jobs_of(claim.evidence, grids)
            pairs = pairs_of(claim.evidence, own) if claim.evidence.compare else ()
            jobs |= dict.fromkeys((*own, *(job for pair in pairs for job in pair)))
    return tuple(jobs)


def jobs_of(runs: Runs, grids: Mapping[str, JobGrid]) -> tuple[JobSpec, ...]:
    """The jobs of a claim, without their counterparts.

    Raises:
        ConfigError: if there is no such grid, or a combination is no job.
    """
    if runs.grid not in grids:
        raise ConfigError(f"there is no grid {runs.grid!r}", hint=nearest_hint(runs.grid, [*grids]))
    grid = grids[runs.grid]
    both = [key for key in runs.axes if key in grid.zip or key in runs.set]
    if both:
        raise ConfigError(f"grid {runs.grid}: {both[0]} is swept twice", hint="leave it in one place")
    axes = grid.axes | runs.axes
    expansion = expand(Sweep(name="claims", base=grid.base, axes=axes, zip=grid.zip, pinned=runs.set))
    if expansion.invalid:
        first = expansion.invalid[0]
        raise ConfigError(f"grid {runs.grid}: {first.reason}", hint="see docs/claims.md")
    return expansion.jobs


def pairs_of(runs: Runs, jobs: Sequence[JobSpec]) -> tuple[tuple[JobSpec, JobSpec], ...]:
    """Each job and its counterpart.

    Raises:
        ConfigError: if what the counterpart differs in makes it no job, or the very same one.
    """
    return tuple((job, _changed(job, runs.against)) for job in jobs)


def differences(jobs: Sequence[JobSpec]) -> tuple[str, ...]:
    """What sets each of some jobs apart from the others, such as `tokens 512, checkpointing on`."""
    settings = [settings_of(job) for job in jobs]
    keys = varying_keys(settings)
    return tuple(", ".join(_shown(key, job[key]) for key in keys if key in job) for job in settings)


def _shown(key: str, value: str) -> str:
    return f"{_SHORT_NAMES.get(key, key.removeprefix('method.'))} {value}"


def _changed(job: JobSpec, changes: Mapping[str, object]) -> JobSpec:
    tree = job.model_dump(mode="json")
    for key, value in changes.items():
        tree = set_value(tree, key, value)
    try:
        other = JobSpec.model_validate(tree)
    except ValidationError as error:
        problem = describe_problem(error)
        raise ConfigError(f"counterpart: {problem.path}: {problem.message}", hint=problem.hint) from None
    if other == job:
        raise ConfigError(f"a job of {job.model} is its own counterpart", hint="`against` must change it")
    return other
