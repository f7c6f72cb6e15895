"""What stands in a sweep file: its name, jobs told in part, columns of values, what is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from profiler.errors import ConfigError
from profiler.jobs.job import SHORT_FOR
from profiler.jobs.keys import canonical_value, check_key

if TYPE_CHECKING:
    from profiler.jobs.load import Tree

Columns: TypeAlias = dict[str, tuple[object, ...]]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)


def read_name(tree: Tree, *, source: str) -> str:
    """The sweep's name, which is also that of the directory its results go to."""
    if "name" not in tree:
        raise ConfigError(f"{source}: name: is missing", hint="its results go to results/NAME")
    name = tree["name"]
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or len(name) > 100:
        hint = "lower-case letters, digits and ._- make a name"
        raise ConfigError(f"{source}: name: {_shown(name)} cannot be a directory's name", hint=hint)
    return name


def read_base(value: object, *, where: str) -> dict[str, object]:
    """What every job says, a method by its single keys: one that `extends` it may change each of them."""
    base: dict[str, object] = {}
    for key, inner in read_part(value, where=where).items():
        if key != "method":
            base[key] = inner
        elif isinstance(inner, Mapping):
            base |= {f"method.{name}": leaf for name, leaf in inner.items()}
        else:
            base["method.kind"] = inner
    return base


def read_part(value: object, *, where: str) -> dict[str, object]:
    """A job told in part: every key checked alone, then a method's own keys together."""
    part: dict[str, object] = {}
    for key, inner in read_mapping(value, where=where).items():
        is_without_kind = key == "method" and isinstance(inner, Mapping) and "kind" not in inner
        leaves = read_mapping(inner, where=f"{where}.{key}") if is_without_kind else {"": inner}
        for name, leaf in leaves.items():
            dotted = f"{key}.{name}" if name else key
            canonical_value(dotted, leaf, where=f"{where}.{dotted}")
            part[dotted] = leaf
    _check_method(part, where=where)
    return part


def _check_method(part: Mapping[str, object], *, where: str) -> None:
    """A kind beside keys that it does not have contradicts itself; without a kind they wait for one."""
    kind = part.get("method.kind", part.get("method"))
    if isinstance(kind, str):
        keys = [key for key in part if key.startswith("method.")]
        method = {key.removeprefix("method."): part[key] for key in keys}
        canonical_value("method", {**method, "kind": kind}, where=f"{where}.method")


def read_columns(value: object, *, where: str) -> Columns:
    """The values of each key of `axes` or `zip`."""
    columns = read_mapping(value, where=where)
    return {key: read_values(key, values, where=f"{where}.{key}") for key, values in columns.items()}


def read_values(key: str, value: object, *, where: str) -> tuple[object, ...]:
    """The values of one axis, each of them checked alone."""
    check_key(key, where=where)
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: expected a list of values, found {_shown(value)}", hint="write [VALUE]")
    for number, item in enumerate(value):
        canonical_value(key, item, where=f"{where}[{number}]")
    return tuple(value)


def read_match(value: object, *, where: str) -> Columns:
    """What `exclude` means: any of the values listed, for every key."""
    match: Columns = {}
    for key, inner in read_mapping(value, where=where).items():
        is_nested = isinstance(inner, Mapping)
        leaves = read_mapping(inner, where=f"{where}.{key}") if is_nested else {"": inner}
        for name, leaf in leaves.items():
            below = name or SHORT_FOR.get(key)
            dotted = f"{key}.{below}" if below else key
            match[dotted] = _read_allowed(dotted, leaf, where=f"{where}.{dotted}")
    if not match:
        raise ConfigError(f"{where}: names no key, and would exclude every job", hint="name at least one")
    return match


def read_mapping(value: object, *, where: str) -> Mapping[str, object]:
    """Keys and values, the keys in one line each."""
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and k.isprintable() for k in value):
        message = f"{where}: expected `key: value` lines, found {_shown(value)}"
        raise ConfigError(message, hint="see docs/sweeps.md")
    return value


def read_list(value: object, *, where: str) -> list[object]:
    """A list, whatever it holds."""
    if not isinstance(value, list):
        raise ConfigError(
            f"{where}: expected a list, found {_shown(value)}", hint="begin each entry with `-`"
        )
    return value


def read_text(value: object, *, where: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected a text, found {_shown(value)}", hint="quote it")
    return value


def _read_allowed(key: str, value: object, *, where: str) -> tuple[object, ...]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ConfigError(f"{where}: the list is empty, and would match no job", hint="name a value")
    return tuple(canonical_value(key, item, where=where) for item in values)


def _shown(value: object) -> str:
    return f"{value!r:.60}"
