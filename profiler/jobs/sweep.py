"""What a sweep is, and which sweep a YAML file describes, or what is wrong with it and where."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from profiler.errors import ConfigError
from profiler.jobs.keys import JOB_KEYS, canonical_value
from profiler.jobs.load import read_setting, read_yaml
from profiler.jobs.problems import nearest_hint
from profiler.jobs.sweep_parts import (
    read_base,
    read_columns,
    read_list,
    read_mapping,
    read_match,
    read_name,
    read_part,
    read_text,
    read_values,
)
from profiler.resources import configs_dir
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_POINTS = 100_000
"""How many combinations a grid may have: more is a slip of the pen, and would take hours to list."""


class Sweep(Value):
    """Jobs that belong together. Keys of jobs are dotted where they lie deeper, such as `method.rank`.

    Attributes:
        name: what its results are called: lower-case letters, digits and `._-`.
        base: what every job says unless something below says otherwise.
        axes: the grid: every value of every key, combined.
        zip: keys whose values advance together, the first with the first; one more axis of the grid.
        include: jobs besides the grid, each `base` with changes of its own; `exclude` does not touch them.
        exclude: combinations taken out of the grid: for every key the values meant, as a job holds them.
        pinned: what was set from outside, above all else.
    """

    name: str
    description: str = ""
    base: dict[str, object] = Field(default_factory=dict)
    axes: dict[str, tuple[object, ...]] = Field(default_factory=dict)
    zip: dict[str, tuple[object, ...]] = Field(default_factory=dict)
    include: tuple[dict[str, object], ...] = ()
    exclude: tuple[dict[str, tuple[object, ...]], ...] = ()
    pinned: dict[str, object] = Field(default_factory=dict)


_FILE_KEYS = ("name", "description", "extends", "base", "axes", "zip", "include", "exclude")


def load_sweep(path: Path, *, settings: Sequence[str] = ()) -> Sweep:
    """Reads a sweep.

    Args:
        path: the file; a bare name such as `smoke` is a sweep of `configs/sweeps`.
        settings: `key=value` texts: the value holds for every job, or a list of them takes an axis's place.

    Raises:
        ConfigError: if the file is no sweep; it names the file, the path in it and the nearest valid key.
    """
    path = _find(path, beside=None)
    sweep = _read(path, chain=())
    for setting in settings:
        key, value = read_setting(setting)
        sweep = _set(sweep, key, value)
    _check_whole(sweep, source=str(path))
    return sweep


def _find(path: Path, *, beside: Path | None) -> Path:
    """A bare name is a shipped sweep; another path is taken from the file that refers to it, if one does."""
    if len(path.parts) == 1 and not path.suffix and not path.is_file():
        shipped = configs_dir() / "sweeps"
        if (shipped / f"{path}.yaml").is_file():
            return shipped / f"{path}.yaml"
        known = sorted(file.stem for file in shipped.glob("*.yaml"))
        raise ConfigError(f"there is no sweep {str(path)!r:.80}", hint=nearest_hint(str(path), known))
    return path if beside is None else beside.parent / path


def _read(path: Path, *, chain: tuple[Path, ...]) -> Sweep:
    if path.resolve() in chain:
        raise ConfigError(f"{path}: extends: the file extends itself", hint="break the circle")
    tree, source = read_yaml(path), str(path)
    for key in read_mapping(tree, where=source):
        if key not in _FILE_KEYS:
            raise ConfigError(f"{source}: {key}: unknown key", hint=nearest_hint(key, _FILE_KEYS))
    sweep = Sweep(
        name=read_name(tree, source=source),
        description=read_text(tree.get("description", ""), where=f"{source}: description"),
        base=read_base(tree.get("base", {}), where=f"{source}: base"),
        axes=read_columns(tree.get("axes", {}), where=f"{source}: axes"),
        zip=read_columns(tree.get("zip", {}), where=f"{source}: zip"),
        include=tuple(
            read_part(entry, where=f"{source}: include[{number}]")
            for number, entry in enumerate(read_list(tree.get("include", []), where=f"{source}: include"))
        ),
        exclude=tuple(
            read_match(entry, where=f"{source}: exclude[{number}]")
            for number, entry in enumerate(read_list(tree.get("exclude", []), where=f"{source}: exclude"))
        ),
    )
    if "extends" not in tree:
        return sweep
    named = read_text(tree["extends"], where=f"{source}: extends")
    return _extend(_read(_find(Path(named), beside=path), chain=(*chain, path.resolve())), sweep)


def _extend(parent: Sweep, child: Sweep) -> Sweep:
    """What the child says comes first, key by key; the lists of both are kept."""
    return child.model_copy(
        update={
            "base": parent.base | child.base,
            "axes": {key: v for key, v in parent.axes.items() if key not in child.zip} | child.axes,
            "zip": {key: v for key, v in parent.zip.items() if key not in child.axes} | child.zip,
            "include": parent.include + child.include,
            "exclude": parent.exclude + child.exclude,
        }
    )


def _set(sweep: Sweep, key: str, value: object) -> Sweep:
    where = f"--set {key}"
    if key in sweep.axes and isinstance(value, list):
        return sweep.model_copy(update={"axes": sweep.axes | {key: read_values(key, value, where=where)}})
    canonical_value(key, value, where=where)
    is_kind_alone = key == "method" and isinstance(value, str)
    within = {name for name in JOB_KEYS if name == key or name.startswith(f"{key}.")}
    replaced = {key, "method.kind"} if is_kind_alone else within
    pinned = {name: inner for name, inner in sweep.pinned.items() if name not in replaced}
    axes = {name: values for name, values in sweep.axes.items() if name not in replaced}
    columns = {name: values for name, values in sweep.zip.items() if name not in replaced}
    if len(axes) < len(sweep.axes) or len(columns) < len(sweep.zip):
        axes[key] = (value,)  # so that a grid stays one, with its axes set to one value each
    target = "method.kind" if is_kind_alone else key
    return sweep.model_copy(update={"axes": axes, "zip": columns, "pinned": {**pinned, target: value}})


def _check_whole(sweep: Sweep, *, source: str) -> None:
    both = [key for key in sweep.axes if key in sweep.zip]
    if both:
        raise ConfigError(f"{source}: {both[0]} is in axes and in zip", hint="leave it in one of them")
    lengths = {key: len(values) for key, values in sweep.zip.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(f"{source}: zip: its lists are of unequal length: {found}", hint="make them equal")
    num_points = math.prod(map(len, sweep.axes.values())) * next(iter(lengths.values()), 1)
    if num_points > MAX_POINTS:
        raise ConfigError(
            f"{source}: the grid has {num_points:,} combinations, more than {MAX_POINTS:,}",
            hint="split the sweep, or zip axes that belong together",
        )
    _check_models(sweep, source=source)


def _check_models(sweep: Sweep, *, source: str) -> None:
    if "model" in sweep.base or "model" in sweep.pinned:
        return
    hint = "a preset, a Hub id or a local directory"
    has_grid = bool(sweep.axes or sweep.zip or not sweep.include)
    if has_grid and "model" not in sweep.axes and "model" not in sweep.zip:
        raise ConfigError(f"{source}: base.model: is missing", hint=hint)
    for number, entry in enumerate(sweep.include):
        if "model" not in entry:
            raise ConfigError(f"{source}: include[{number}].model: is missing", hint=hint)
