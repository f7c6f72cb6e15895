"""What makes two jobs the same: the key of a job."""

from __future__ import annotations

import hashlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.jobs.job import JobSpec

_SCHEMA = "peakvram-job-1"

ADDED_LATER: Mapping[str, object] = MappingProxyType(
    {
        "method.use_dora": False,
        "method.use_rslora": False,
        "method.trl_casting": False,
        "task": "causal-lm",
        "num_labels": 2,
        "target_len": None,
        "images": 1,
        "image_size": 448,
        "method.autocast_adapter_dtype": True,
        "method.modules_to_save": [],
        "accumulation": 1,
        "foreach": True,
        "neftune_alpha": 0.0,
        "loss": "full",
        "eval_batches": 0,
        "eval_batch_size": 8,
        "eval_accumulation_steps": None,
        "prediction_loss_only": False,
        "save": False,
    }
)
"""Fields that jobs did not have at first, by dotted key, and what all jobs did before there was a choice.

With that value a field is left out of the canonical JSON, so that a job has the key it always had.
"""


def job_key(spec: JobSpec) -> str:
    """The first 16 hex digits of the SHA-256 of a job's canonical JSON.

    The job must be resolved: `gpu` names a card of the catalogue or a real one. The index of a real card does
    not count (the same job on the next card is the same job); which card it was stands in the record.
    """
    assert spec.gpu != "auto", "the key of a job is known once its GPU is chosen"
    fields = identity_fields(spec) | {"gpu": "real" if spec.is_real_gpu_asked else spec.gpu}
    _leave_out(fields, "target_len", spec.seq_len)  # which is what it is if it is not given
    canonical = json.dumps({"schema": _SCHEMA, "job": fields}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def identity_fields(spec: JobSpec) -> dict[str, Any]:
    """A job's fields, but for those added later that say what all jobs did before."""
    fields = spec.model_dump(mode="json")
    for key, before in ADDED_LATER.items():
        _leave_out(fields, key, before)
    return fields


def _leave_out(fields: dict[str, Any], key: str, value: object) -> None:
    """Removes a field that has this value; a job whose method lacks the field is left as it is."""
    first, _, rest = key.partition(".")
    part = fields[first] if rest else fields
    name = rest or first
    if name in part and part[name] == value:
        del part[name]
