"""Which dotted keys a job has, such as `method.rank`, and what a value of one is in a validated job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from pydantic import ValidationError

from profiler.errors import ConfigError
from profiler.jobs.job import METHODS, TASK_KEYS, TRAINING_KEYS, GradientCheckpointing, Inference, JobSpec
from profiler.jobs.problems import describe_problem, nearest_hint

if TYPE_CHECKING:
    from profiler.jobs.load import Tree

Values: TypeAlias = Mapping[str, object]
"""Dotted keys of a job, and a value for each; a key such as `method` stands for all below it."""

_METHOD_KEYS = tuple(dict.fromkeys(name for method in METHODS.values() for name in method.model_fields))
JOB_KEYS = (
    *JobSpec.model_fields,
    *(f"method.{name}" for name in _METHOD_KEYS),
    *(f"gradient_checkpointing.{name}" for name in GradientCheckpointing.model_fields),
)
"""Every dotted key of a job, whatever its method."""
_ANY_MODEL = "any"


def canonical_value(key: str, value: object, *, where: str) -> object:
    """One value as a validated job holds it, in JSON: `q,v` of `method.targets` becomes `["q", "v"]`.

    Raises:
        ConfigError: if a job has no such key, or the value is wrong whatever else the job says; `where`
        begins
            the message.
    """
    check_key(key, where=where)
    first_error: ValidationError | None = None
    for tree in _smallest_jobs(key, value):
        try:
            return look_up(JobSpec.model_validate(tree).model_dump(mode="json"), key)
        except ValidationError as error:
            first_error = first_error or error
    assert first_error is not None, "every key belongs to some job"
    problem = describe_problem(first_error)
    inside = problem.path.removeprefix(key)
    raise ConfigError(f"{where}{inside}: {problem.message}", hint=problem.hint) from None


def check_key(key: str, *, where: str) -> None:
    """Refuses a key that no job has.

    Raises:
        ConfigError: it names the nearest key that a job has.
    """
    if key not in JOB_KEYS:
        raise ConfigError(f"{where}: unknown key", hint=_nearest_key(key))


def flatten(tree: Tree) -> dict[str, object]:
    """A job's fields by dotted key, with `method` and `gradient_checkpointing` taken apart."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def look_up(tree: Tree, key: str) -> object:
    """The value at a dotted key that is there."""
    first, _, rest = key.partition(".")
    return tree[first][rest] if rest else tree[first]


def drop_inapplicable(job: Tree) -> Tree:
    """A job's keys without those of other methods or tasks only: `method.rank` for `full`."""
    if "task" in job:
        job = {key: value for key, value in job.items() if job["task"] in TASK_KEYS.get(key, (job["task"],))}
    method = job.get("method")
    if not isinstance(method, Mapping) or str(method.get("kind")) not in METHODS:
        return job
    kind = METHODS[str(method["kind"])]
    own = {
        name: value for name, value in method.items() if name in kind.model_fields or name not in _METHOD_KEYS
    }
    kept = {name: value for name, value in job.items() if kind is not Inference or name not in TRAINING_KEYS}
    return {**kept, "method": own}


def _smallest_jobs(key: str, value: object) -> list[Tree]:
    """The jobs that say nothing but this: one a method that has the key, for `quant` is not one choice."""
    first, _, rest = key.partition(".")
    if not rest:
        return [{"model": _ANY_MODEL, first: value}]
    if first == "method" and rest != "kind":
        owners = [kind for kind, method in METHODS.items() if rest in method.model_fields]
        return [{"model": _ANY_MODEL, "method": {"kind": owner, rest: value}} for owner in owners]
    return [{"model": _ANY_MODEL, first: {rest: value}}]


def _nearest_key(key: str) -> str:
    below = [known for known in JOB_KEYS if known.endswith(f".{key}")]
    if below:
        return f"did you mean {below[0]!r}?"
    parent = key.rpartition(".")[0]
    siblings = [known for known in JOB_KEYS if known.rpartition(".")[0] == parent]
    return nearest_hint(key, siblings or list(JobSpec.model_fields))
