"""Which job a YAML file or a mapping describes, or what is wrong with it and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from profiler.errors import ConfigError
from profiler.jobs.job import JobSpec
from profiler.jobs.problems import describe_problem
from profiler.jobs.yaml_text import YamlError, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Model = TypeVar("Model", bound=BaseModel)
Tree: TypeAlias = dict[str, Any]
"""What a YAML file holds before it is validated: keys and whatever stands behind them."""


def job_from(
    data: Mapping[str, object], *, source: str = "", labels: Mapping[str, str] | None = None
) -> JobSpec:
    """Makes a job of a mapping such as a YAML file holds.

    Args:
        data: the job's fields.
        source: what the fields come from, named before the key in an error; empty for nothing.
        labels: what to call a dotted path instead, such as `{"method.rank": "--rank"}`.

    Raises:
        ConfigError: on the first field that is unknown, missing or wrong.
    """
    try:
        return JobSpec.model_validate(data)
    except ValidationError as error:
        problem = describe_problem(error)
        label = (labels or {}).get(problem.path)
        where = label or ": ".join(part for part in (source, problem.path) if part)
        message = f"{where}: {problem.message}" if where else problem.message
        raise ConfigError(message, hint=problem.hint) from None


def read_yaml(path: Path) -> Tree:
    """Reads a YAML file that holds a mapping with text keys, each key once.

    Raises:
        ConfigError: if there is no such file, or it holds anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", hint="a configuration is a YAML file") from None
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise ConfigError(f"cannot read {path}: {reason}", hint="check the path") from None
    return _read_mapping(text, source=str(path))


def read_yaml_as(path: Path, kind: type[Model]) -> Model:
    """Reads a YAML file that is one of our own kinds.

    Raises:
        ConfigError: if it is none; it names the file and the key.
    """
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        problem = describe_problem(error)
        raise ConfigError(f"{path}: {problem.path}: {problem.message}", hint=problem.hint) from None


def read_value(text: str) -> object:
    """Reads one value as YAML does: `8` is a number, `true` a truth value, `[a, b]` a list.

    Raises:
        ConfigError: if the text is not YAML.
    """
    try:
        return parse_yaml(text)
    except YamlError as error:
        message = f"{text!r:.80} cannot be read as a value: {error.problem}"
        raise ConfigError(message, hint="quote it as YAML would") from None


def read_setting(text: str) -> tuple[str, object]:
    """Reads `key.path=value` as the command line takes it: the dotted key, and the value as YAML reads it.

    Raises:
        ConfigError: if the text is no such pair.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {text!r} is no KEY=VALUE", hint="write for example --set method.rank=8")
    return path.strip(), read_value(value)


def set_value(data: Mapping[str, object], dotted_path: str, value: object) -> Tree:
    """A copy of `data` with the value at a dotted path such as `method.rank` replaced or added.

    A text or truth value on the way, as in `method: lora`, becomes the mapping it is short for.

    Raises:
        ConfigError: if the path is empty in a part, or leads through something that holds no keys.
    """
    first, _, rest = dotted_path.partition(".")
    if not first or (not rest and "." in dotted_path):
        raise ConfigError(f"{dotted_path!r} is no dotted path", hint="write for example method.rank")
    if not rest:
        return {**data, first: value}
    below = _as_mapping(first, data.get(first, {}))
    return {**data, first: set_value(below, rest, value)}


def _as_mapping(key: str, value: object) -> Tree:
    match key, value:
        case _, dict():
            return value
        case "method", str():
            return {"kind": value}
        case "gradient_checkpointing", bool():
            return {"enabled": value}
        case _:
            raise ConfigError(f"{key} has no keys of its own", hint=f"set {key} itself")


def _read_mapping(text: str, *, source: str) -> Tree:
    try:
        data = parse_yaml(text)
    except YamlError as error:
        message = f"{source}{error.place}: {error.problem}"
        raise ConfigError(message, hint="mend the YAML there") from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(
            f"{source} does not hold `key: value` lines", hint="a job needs at least `model: NAME`"
        )
    return data
