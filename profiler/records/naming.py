"""What a record's file is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.records.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Device, Record

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._]+")


def record_file_name(record: Record) -> str:
    """The name of a record's file: model, method, card, key and fingerprint, in safe letters.

    A record that tells of no surroundings (its process ended before it could) has no fingerprint in its name.
    """
    return job_file_name(record.spec, record.device, key=record.key, fingerprint=fingerprint_of(record))


def job_file_name(spec: JobSpec, device: Device | None, *, key: str, fingerprint: str | None) -> str:
    """The name of the file that a job's record will have."""
    parts = (
        _slug(short_model(spec.model)),
        spec.method.kind,
        _slug(device.id if device else spec.gpu),
        key,
        fingerprint,
    )
    return "--".join(part for part in parts if part is not None) + ".json"


def short_model(model: str) -> str:
    """A local directory's own name alone: where it stands is nobody's business; any other model as it is."""
    return (Path(model).name or Path.cwd().name) if model.startswith((".", "/", "~")) else model


def _slug(text: str) -> str:
    # Names of files hold 255 bytes; key, method and card leave far more than 80 for the model.
    return _NOT_IN_A_NAME.sub("-", text.lower()).strip("-.")[:80] or "unnamed"
