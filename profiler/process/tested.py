"""Between which versions of Python and of the libraries peakvram was tested: what is newer may differ."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from profiler.resources import configs_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def newer_than_tested(versions: Mapping[str, str | None]) -> Iterator[str]:
    """A sentence for each library that is newer than the newest that was tested.

    Args:
        versions: by library; what is missing, and libraries that are not tested by version, are passed over.
    """
    for name, tested in _tested()["libraries"].items():
        version, newest = versions.get(name), tested["newest"]
        if version and release(version) > release(newest):
            yield f"{name} {version} is newer than any that was tested ({tested['oldest']} to {newest})"


def pythons_tested() -> tuple[str, ...]:
    """The Pythons that were tested, as `3.11`, the oldest first."""
    return tuple(_tested()["python"])


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what follows them: (2, 14, 1) of `2.14.1+cu130`."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


@cache
def _tested() -> dict[str, Any]:
    tested: dict[str, Any] = json.loads((configs_dir() / "tested.json").read_text(encoding="utf-8"))
    return tested
