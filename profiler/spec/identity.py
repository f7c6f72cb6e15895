"""What makes two jobs the same: the key of a job."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.spec.job import JobSpec

_SCHEMA = "peakvram-job-1"


def job_key(spec: JobSpec) -> str:
    """The first 16 hex digits of the SHA-256 of a job's canonical JSON.

    The job must be resolved: `gpu` names a card of the catalogue or a real one. The index of a real card does
    not count (the same job on the next card is the same job); which card it was stands in the record.
    """
    assert spec.gpu != "auto", "the key of a job is known once its GPU is chosen"
    fields = spec.model_dump(mode="json") | {"gpu": "real" if spec.is_real_gpu_asked else spec.gpu}
    canonical = json.dumps({"schema": _SCHEMA, "job": fields}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
