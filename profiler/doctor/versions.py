"""Whether the Python and the libraries of this machine are among those that peakvram was tested with."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from profiler.doctor.checks import Check, Status
from profiler.process.environment import read_environment
from profiler.process.tested import newer_than_tested, pythons_tested, release

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_versions() -> Check:
    """Names what was not tested; what is missing altogether, other checks tell."""
    untested = [
        *_untested_python(),
        *newer_than_tested(read_environment(alloc_conf="", driver=None).model_dump()),
    ]
    if not untested:
        return Check(name="versions", status=Status.OK, detail="none is newer than what was tested")
    hint = "bytes may differ from those of tested versions: docs/versions.md says how to test these"
    return Check(name="versions", status=Status.WARN, detail="; ".join(untested), hint=hint)


def _untested_python() -> Iterator[str]:
    running, tested = platform.python_version(), pythons_tested()
    if ".".join(map(str, release(running)[:2])) not in tested:
        yield f"python {running} was not tested (tested: {', '.join(tested)})"
