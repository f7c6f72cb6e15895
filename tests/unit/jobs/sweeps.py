"""Sweep files for tests, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from profiler.errors import ConfigError
from profiler.jobs.expansion import Expansion, expand
from profiler.jobs.sweep import load_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.jobs.job import JobSpec


def a_file(directory: Path, text: str = "", *, file: str = "sweep.yaml", **parts: Any) -> Path:
    """A sweep file of `parts` (a name and a model are added where they are missing), or of a text."""
    path = directory / file
    tree = {"name": "test", "base": {"model": "x"}, **parts}
    path.write_text(text or yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def expansion_of(directory: Path, *sets: str, **parts: Any) -> Expansion:
    return expand(load_sweep(a_file(directory, **parts), settings=sets))


def jobs_of(directory: Path, *sets: str, **parts: Any) -> tuple[JobSpec, ...]:
    return expansion_of(directory, *sets, **parts).jobs


def refusal_of(directory: Path, *sets: str, **parts: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_sweep(a_file(directory, **parts), settings=sets)
    return caught.value
