"""Whether Python and the libraries of this machine are among those that peakvram was tested with."""

from __future__ import annotations

from profiler.doctor.checks import Check, Status
from profiler.process.environment import read_environment
from profiler.process.tested import newer_than_tested


def check_versions() -> Check:
    """Names what is newer than all that was tested; what is missing or too old, other checks tell."""
    newer = "; ".join(newer_than_tested(read_environment(alloc_conf="", driver=None).model_dump()))
    hint = "bytes may differ from those of tested versions: docs/versions.md says how to test these"
    if newer:
        return Check(name="versions", status=Status.WARN, detail=newer, hint=hint)
    return Check(name="versions", status=Status.OK, detail="none is newer than what was tested")
