"""Which derived formula serves a job: of the same model and job, whatever the batch, card and settings."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from profiler.jobs.identity import identity_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.jobs.job import JobSpec

SUFFIX = ".json.gz"
"""How the name of a formula's file ends."""
_SCHEMA = "peakvram-derived-1"
VARIABLES = frozenset({"batch_size", "seq_len", "steps"})
"""What a formula leaves open."""
_NO_MATTER = frozenset({"model", "revision", "alloc_conf", "gpu", "gpu_memory_bytes"})
"""What does not decide what is asked of the allocator: names, its own settings, and how much the card has.

The card itself does, by its cuBLAS and its kernels: a file says on which it was derived.
"""
_NOT_OF_THE_MODEL = frozenset({"_name_or_path", "transformers_version"})


def job_fields(job: JobSpec) -> dict[str, object]:
    """What of a job a formula is for."""
    left_out = VARIABLES | _NO_MATTER
    return {name: value for name, value in identity_fields(job).items() if name not in left_out}


def derived_key(job: JobSpec, config: Mapping[str, object]) -> str:
    """The first 16 hex digits of the SHA-256 of what a formula is for: the job's fields and the config."""
    model = {name: value for name, value in config.items() if name not in _NOT_OF_THE_MODEL}
    facts = {"schema": _SCHEMA, "job": job_fields(job), "config": model}
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
