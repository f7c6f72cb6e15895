"""Which jobs a sweep is: the points of its grid, and the jobs it lists besides."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from profiler.errors import ConfigError
from profiler.jobs.job import DEFAULT_METHOD, JobSpec
from profiler.jobs.keys import Values, canonical_value, drop_inapplicable, flatten
from profiler.jobs.load import Tree, set_value
from profiler.jobs.problems import describe_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from profiler.jobs.sweep import Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidJob:
    """A combination that is no job.

    Attributes:
        values: what makes it differ from the sweep's other jobs, by dotted key.
        reason: why it cannot be one.
    """

    values: Mapping[str, object]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What a sweep file comes to.

    Attributes:
        jobs: each once, in the order of the file: the grid, its last axis fastest, then `include`.
        invalid: the combinations that are no job, in the same order.
        num_excluded: how many points of the grid `exclude` took out.
        num_duplicates: how many jobs were there already, such as one a rank where the method has none.
    """

    jobs: tuple[JobSpec, ...]
    invalid: tuple[InvalidJob, ...]
    num_excluded: int
    num_duplicates: int


def expand(sweep: Sweep) -> Expansion:
    """Turns a sweep into its jobs; the same sweep gives the same jobs in the same order."""
    jobs: dict[JobSpec, JobSpec] = {}
    invalid: list[InvalidJob] = []
    num_excluded = num_valid = 0
    for point, is_listed in _points(sweep):
        tree = _job_tree((sweep.base, point, sweep.pinned))
        job = _make_job(tree)
        if not is_listed and _is_excluded(tree, job, sweep.exclude):
            num_excluded += 1
        elif isinstance(job, JobSpec):
            num_valid += 1
            jobs.setdefault(_identity(job), job)
        else:
            invalid.append(InvalidJob(values=MappingProxyType(dict(point)), reason=job))
    return Expansion(
        jobs=tuple(jobs.values()),
        invalid=tuple(invalid),
        num_excluded=num_excluded,
        num_duplicates=num_valid - len(jobs),
    )


def _points(sweep: Sweep) -> Iterator[tuple[Values, bool]]:
    """What each job adds to the base, and whether `include` lists it; a file of `include` alone is a list."""
    columns = [[{key: value} for value in values] for key, values in sweep.axes.items()]
    if sweep.zip:
        columns.append(
            [dict(zip(sweep.zip, row, strict=True)) for row in zip(*sweep.zip.values(), strict=True)]
        )
    if columns or not sweep.include:
        for parts in itertools.product(*columns):
            yield {key: value for part in parts for key, value in part.items()}, False
    for listed in sweep.include:
        yield listed, True


def _job_tree(layers: Iterable[Values]) -> Tree:
    """A job's fields: later layers change earlier ones, and within one `method.rank` changes `method`."""
    tree: Tree = {}
    for layer in layers:
        for key in sorted(layer, key=lambda key: key.count(".")):
            value = layer[key]
            is_kind_alone = key == "method" and isinstance(value, str)
            tree = set_value(tree, "method.kind" if is_kind_alone else key, value)
    if isinstance(tree.get("method"), dict):
        tree["method"] = {"kind": DEFAULT_METHOD, **tree["method"]}
    return drop_inapplicable(tree)


def _make_job(tree: Tree) -> JobSpec | str:
    """The job, or why it is none."""
    try:
        return JobSpec.model_validate(tree)
    except ValidationError as error:
        problem = describe_problem(error)
        return ": ".join(part for part in (problem.path, problem.message) if part)


def _is_excluded(tree: Tree, job: JobSpec | str, exclude: Iterable[Mapping[str, tuple[object, ...]]]) -> bool:
    if not exclude:
        return False
    facts = flatten(job.model_dump(mode="json")) if isinstance(job, JobSpec) else _facts(tree)
    return any(
        all(key in facts and facts[key] in allowed for key, allowed in match.items()) for match in exclude
    )


def _facts(tree: Tree) -> dict[str, object]:
    """What a combination that is no job says, field by field, each as a job would hold it."""
    facts = dict(_default_facts())
    for key, value in tree.items():
        try:
            read = canonical_value(key, value, where=key)
        except ConfigError:
            read = value  # such as `{enabled: false, reentrant: true}`: its own parts are what can be matched
        facts |= flatten({key: read})
    return facts


@cache
def _default_facts() -> Mapping[str, object]:
    fields = JobSpec(model="any").model_dump(mode="json", exclude={"model", "method"})
    return MappingProxyType(flatten(fields))


def _identity(job: JobSpec) -> JobSpec:
    """What two equal jobs share, as in `job_key`: which of several real cards is asked for does not count."""
    return job.model_copy(update={"gpu": "real"}) if job.is_real_gpu_asked else job
