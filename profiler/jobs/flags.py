"""Which flags describe a job on a command line: one for each of its fields, made from the field itself."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from profiler.errors import ConfigError
from profiler.jobs.alloc_conf import choose_alloc_conf
from profiler.jobs.job import DEFAULT_METHOD, METHODS, SHORT_FOR, JobSpec
from profiler.jobs.load import Tree, job_from, read_setting, set_value
from profiler.jobs.settings import UNSET, show_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic.fields import FieldInfo

_ATTRIBUTE = re.compile(r"^ {4}(\w+)(?: \((\w+)\))?: (.*(?:\n {8}.*)*)", re.MULTILINE)
_NOT_OF_THE_NAME = re.compile(r"^(use|is|has)_|_bytes$")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlag:
    """One flag.

    Attributes:
        path: the dotted key of a job that it sets, such as `method.rank`.
        name: what it is called, as a parameter of Python.
        metavar: what stands for its value in the help; empty where it takes none.
        help: what it does, and what a job has without it.
        choices: the values it takes; empty where it takes others too.
        is_argument: whether its value stands alone, without the flag's name.
        is_switch: whether it takes no value, but has an opposite.
        is_number: whether its value is read as a number.
    """

    path: str
    name: str
    metavar: str
    help: str
    choices: tuple[str, ...]
    is_argument: bool
    is_switch: bool
    is_number: bool

    @property
    def label(self) -> str:
        """What a message calls it."""
        return self.name.upper() if self.is_argument else f"--{self.name.replace('_', '-')}"


def job_flags(job: type[BaseModel] = JobSpec) -> tuple[JobFlag, ...]:
    """The flags of a job, in the order of its fields; those of a part stand where the part does."""
    return tuple(
        _flag(path, owners, job.model_fields[path.partition(".")[0]]) for path, owners in _owners(job).items()
    )


def read_job(
    flags: Mapping[str, object],
    *,
    data: Tree,
    source: str = "",
    settings: Sequence[str] = (),
    environ: Mapping[str, str],
) -> tuple[JobSpec, str]:
    """Reads a job; flags change what a file says, `--set` changes both.

    Args:
        flags: the value of each flag by its name; None means that it was not given.
        data: what the file says; empty for no file.
        source: what to call the file in an error.
        settings: `key.path=value` texts; the values are YAML.
        environ: the environment of the command, whose allocator settings a job adopts.

    Returns:
        The job, and the reason for its allocator settings where they come from the environment (else "").

    Raises:
        ConfigError: if they describe no job; it names the flag, or the file and the key.
    """
    given = {flag: flags[flag.name] for flag in JOB_FLAGS if flags.get(flag.name) is not None}
    labels = {flag.path: flag.label for flag in given}
    # The method comes first: it decides which of the file's keys are kept for the others to change.
    for flag, value in sorted(given.items(), key=lambda item: item[0].path != "method.kind"):
        data = _set(data, flag.path, read_number(str(value)) if flag.is_number else value)
    for setting in settings:
        path, value = read_setting(setting)
        data = set_value(_with_method(data, path), path, value)
        labels[path] = f"--set {path}"
    if "model" not in data:
        raise ConfigError(
            "no model is named", hint="give a preset, a Hub id or a local directory, or --config"
        )
    spec = job_from(data, source=source, labels=labels)
    alloc_conf, reason = choose_alloc_conf(spec.alloc_conf, environ=environ)
    return spec.model_copy(update={"alloc_conf": alloc_conf}), reason


def read_number(text: str) -> int | float | str:
    """Reads a number a flag was given; text that is none comes back, for the job's own check to refuse."""
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def _owners(job: type[BaseModel]) -> dict[str, dict[type[BaseModel], FieldInfo]]:
    """The models that have each dotted key, with their fields of it."""
    owners: dict[str, dict[type[BaseModel], FieldInfo]] = {}
    for key, field in job.model_fields.items():
        parts = [part for part in _types(field.annotation) if issubclass(part, BaseModel)]
        below = [(f"{key}.{name}", part, own) for part in parts for name, own in part.model_fields.items()]
        for path, owner, own in below or [(key, job, field)]:
            owners.setdefault(path, {})[owner] = own
    return owners


def _flag(path: str, owners: Mapping[type[BaseModel], FieldInfo], top: FieldInfo) -> JobFlag:
    """A key's flag; `top` is the job's field that it is or belongs to."""
    key, _, below = path.partition(".")
    owner = type(top.default) if type(top.default) in owners else next(iter(owners))
    field, types = owners[owner], _types(owners[owner].annotation)
    is_short = SHORT_FOR.get(key) == below
    choices = tuple(word for each in owners.values() for word in _words(each)) if is_short else _words(field)
    others = {} if is_short else {each: own for each, own in owners.items() if each is not owner}
    name = key if is_short else _NOT_OF_THE_NAME.sub("", below or key)
    metavar, text = _said_of(path, owners)
    is_size = path.endswith("_bytes")
    return JobFlag(
        path=path,
        name=name,
        metavar="" if bool in types else metavar or ("SIZE" if is_size else "N" if int in types else "NAME"),
        help=_help(text, field, choices=choices, others=others),
        choices=(*choices, *(word for own in others.values() for word in _words(own) if word not in choices)),
        is_argument=top.is_required(),
        is_switch=bool in types,
        is_number=not is_size and not {int, float}.isdisjoint(types),
    )


def _said_of(path: str, owners: Iterable[type[BaseModel]]) -> tuple[str, str]:
    """What stands for a key's value, and what the first docstring that speaks of the key says."""
    name = path.rpartition(".")[2]
    said = (_attributes(model).get(name) for owner in owners for model in owner.__mro__)
    return next((entry for entry in said if entry), ("", ""))


@cache
def _attributes(model: type) -> Mapping[str, tuple[str, str]]:
    entries = _ATTRIBUTE.findall(inspect.cleandoc(model.__doc__ or ""))
    return {name: (metavar, " ".join(text.split())) for name, metavar, text in entries}


def _help(
    text: str, field: FieldInfo, *, choices: tuple[str, ...], others: Mapping[type[BaseModel], FieldInfo]
) -> str:
    default = UNSET if field.is_required() else show_value("", field.default)
    text = text.removesuffix(".")
    if not set(choices) <= set(re.findall(r"[\w-]+", text)):
        text = ": ".join(part for part in (text, _listed(choices, "or")) if part)
    if re.split(r"[ ,]", text)[0] not in {*choices, default}:
        text = text[:1].upper() + text[1:]
    also = "".join(_also(owner, own, choices=choices, default=default) for owner, own in others.items())
    return f"{text}." if default == UNSET else f"{text} (default {default}){also}"


def _also(owner: type[BaseModel], field: FieldInfo, *, choices: tuple[str, ...], default: str) -> str:
    """What is otherwise where another part has the key, such as another method."""
    own, kind = show_value("", field.default), show_value("", owner.model_fields["kind"].default)
    more = [word for word in _words(field) if word not in choices]
    told = [f"{word}, its default," if word == own else word for word in more]
    takes = f"; {kind} also takes {_listed(told, 'and')}" if more else ""
    return takes if own == default or own in more else f"{takes}; {kind} has {own}"


def _listed(words: Sequence[str], last: str) -> str:
    *before, end = words
    return f"{', '.join(before)} {last} {end}" if before else end


def _words(field: FieldInfo) -> tuple[str, ...]:
    """The values a choice takes; empty for a field that is no choice."""
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    kinds = [kind for kind in _types(field.annotation) if issubclass(kind, StrEnum)]
    return tuple(member.value for kind in kinds for member in kind)


def _types(annotation: object) -> list[type]:
    """The types an annotation is made of."""
    if isinstance(annotation, type):
        return [annotation]
    origin, within = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType, Annotated):
        return [kind for each in (within[:1] if origin is Annotated else within) for kind in _types(each)]
    return [origin] if isinstance(origin, type) else []


def _set(data: Tree, path: str, value: object) -> Tree:
    if path == "method.kind":
        return _change_method(data, str(value))
    return set_value(_with_method(data, path), path, value)


def _change_method(data: Tree, kind: str) -> Tree:
    """Another method than the file's keeps what applies to both: a rank stays, a 4-bit type goes."""
    before = data.get("method")
    if not isinstance(before, dict) or kind not in METHODS:
        return {**data, "method": {"kind": kind}}
    is_same = before.get("kind") == kind
    kept = {key: value for key, value in before.items() if is_same or _applies(key, kind, before)}
    return {**data, "method": {**kept, "kind": kind}}


def _applies(key: str, kind: str, before: Mapping[str, object]) -> bool:
    old = METHODS.get(str(before.get("kind")))
    is_of_old_only = old is not None and key in old.model_fields and key not in METHODS[kind].model_fields
    return not is_of_old_only


def _with_method(data: Tree, path: str) -> Tree:
    """A key such as `method.rank` alone is about the default method."""
    is_alone = path.startswith("method.") and "method" not in data
    return {**data, "method": {"kind": DEFAULT_METHOD}} if is_alone else data


JOB_FLAGS = job_flags()
"""The flags of a job: the one list that commands, their help and completion are made from."""
