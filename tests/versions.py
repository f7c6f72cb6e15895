"""Expectations that belong to a library's version: which side of a change is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from profiler.process.tested import release


def since(**changed: str) -> bool:
    """Whether every library named is installed in that version or a later one: `since(transformers="5.24")`.

    One that is not installed is older than all. A test that asks says in a comment what changed, and expects
    something on both sides of it.
    """
    try:
        return all(release(version(library)) >= release(at) for library, at in changed.items())
    except PackageNotFoundError:
        return False


def dtype_argument(dtype: Any) -> dict[str, Any]:
    """How transformers' loading functions are told the type of the weights; they renamed it in 4.56."""
    return {"dtype" if since(transformers="4.56") else "torch_dtype": dtype}


def needs(**since_when: str) -> pytest.MarkDecorator:
    """Skips a test of what libraries have only since these versions: `needs(transformers="4.51")`."""
    told = ", ".join(f"{library} {version}" for library, version in since_when.items())
    return pytest.mark.skipif(not since(**since_when), reason=f"what it tests came with {told}")
