"""Which study a sweep file and its flags describe: the jobs, and where their records are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.formula.chosen import choose_unnamed
from profiler.hardware.catalogue import find_gpu
from profiler.jobs.alloc_conf import choose_alloc_conf
from profiler.jobs.expansion import Expansion, expand
from profiler.jobs.models import resolve_model
from profiler.jobs.sweep import Sweep, load_sweep
from profiler.records.store import RecordStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiler.jobs.job import JobSpec

RESULTS = Path("results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A sweep and its place.

    Attributes:
        sweep: as the file and `--set` describe it.
        expansion: what it comes to.
        jobs: its jobs, under the allocator's settings of the environment where they adopt them, and with an
            attention that their model has where they name none.
        reasons: why they do and are, each once.
        store: where the records are.
    """

    sweep: Sweep
    expansion: Expansion
    jobs: tuple[JobSpec, ...]
    reasons: tuple[str, ...]
    store: RecordStore


def read_study(
    file: Path,
    *,
    out: Path | None,
    gpu: str | None,
    settings: Sequence[str],
    environ: Mapping[str, str] = os.environ,
) -> Study:
    """Reads a sweep file, and makes sure that its jobs name models and cards that there are.

    Raises:
        ConfigError: if the file is no sweep, comes to no job at all, or names what there is not.
    """
    sweep = load_sweep(file, settings=[*settings, *([f"gpu={gpu}"] if gpu else [])])
    expansion = expand(sweep)
    if not expansion.jobs:
        raise _no_jobs(file, expansion)
    _check_names(expansion.jobs, source=str(file))
    reasons: dict[str, None] = {}
    jobs: dict[JobSpec, None] = {}  # two may be one once all is chosen
    for listed in expansion.jobs:
        alloc_conf, alloc_reason = choose_alloc_conf(listed.alloc_conf, environ=environ)
        job, chosen = choose_unnamed(listed.model_copy(update={"alloc_conf": alloc_conf}))
        jobs[job] = None
        reasons |= dict.fromkeys(reason for reason in (alloc_reason, *chosen) if reason)
    return Study(
        sweep=sweep,
        expansion=expansion,
        jobs=tuple(jobs),
        reasons=tuple(reasons),
        store=RecordStore(out or RESULTS / sweep.name),
    )


def _no_jobs(file: Path, expansion: Expansion) -> ConfigError:
    if expansion.invalid:
        first = expansion.invalid[0]
        values = ", ".join(f"{key} {value}" for key, value in first.values.items())
        return ConfigError(f"{file}: none of its combinations is a job: {values}: {first.reason}")
    return ConfigError(f"{file}: no job is left", hint=f"exclude takes out all {expansion.num_excluded}")


def _check_names(jobs: Iterable[JobSpec], *, source: str) -> None:
    """Refuses the whole sweep for one misspelt name, before hours are spent on the others."""
    try:
        for name, weights, revision in dict.fromkeys((job.model, job.weights, job.revision) for job in jobs):
            resolve_model(name, weights=weights, revision=revision)
        for gpu in dict.fromkeys(job.gpu for job in jobs if job.gpu != "auto" and not job.is_real_gpu_asked):
            find_gpu(gpu)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error.message}", hint=error.hint) from None
