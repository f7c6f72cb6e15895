"""Between which versions of Python and of the libraries peakvram was tested: what is newer may differ."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING

from profiler.resources import configs_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def newer_than_tested(versions: Mapping[str, str | None]) -> Iterator[str]:
    """A sentence for each version, by name, that is newer than the newest that was tested."""
    for name, (oldest, newest) in _tested().items():
        version, bound = versions.get(name), release(newest)
        if version and release(version)[: len(bound)] > bound:
            yield f"{name} {version} is newer than any that was tested ({oldest} to {newest})"


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what follows them: (2, 14, 1) of `2.14.1+cu130`."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


@cache
def _tested() -> dict[str, tuple[str, str]]:
    bounds = json.loads((configs_dir() / "tested.json").read_text(encoding="utf-8"))
    return {name: (between["oldest"], between["newest"]) for name, between in bounds.items()}
