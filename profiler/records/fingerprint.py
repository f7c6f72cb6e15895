"""Which surroundings a job ran in, as far as they decide how much memory it takes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from profiler.records.schema import Device, Environment, Record

Identity: TypeAlias = tuple[str, str | None]

_SCHEMA = "peakvram-environment-1"
_NUM_DIGITS = 12
_LIBRARIES = ("torch", "cuda", "transformers", "peft", "bitsandbytes", "accelerate")
# Whether the Hub may be asked, and how many threads the CPU has: recorded, but no byte of a card hangs on
# them.
_NO_MATTER = frozenset({"HF_HUB_OFFLINE", "OMP_NUM_THREADS"})


def fingerprint(environment: Environment, device: Device) -> str:
    """The first 12 hex digits of the SHA-256 of what decides memory besides the job itself.

    These count: the versions of the libraries and of CUDA, the driver's major version, the allocator's
    settings, the recorded environment variables, and the card. A virtual card is its id, capacity and
    context. A real one is its name alone: what torch and NVML call its total differs, and the context is not
    known before the run. The host, the Python and the version of peakvram do not count.
    """
    facts = {
        "schema": _SCHEMA,
        "versions": {name: getattr(environment, name) for name in _LIBRARIES},
        "driver": (environment.driver or "").partition(".")[0],
        "alloc_conf": environment.alloc_conf,
        "variables": {name: value for name, value in environment.variables.items() if name not in _NO_MATTER},
        "device": _describe(device),
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_NUM_DIGITS]


def fingerprint_of(record: Record) -> str | None:
    """The fingerprint of the surroundings a record tells of; None where it tells of none."""
    if record.environment is None or record.device is None:
        return None
    return fingerprint(record.environment, record.device)


def identity_of(record: Record) -> Identity:
    """What two runs of the same job in the same surroundings share: the key and the fingerprint."""
    return record.key, fingerprint_of(record)


def _describe(device: Device) -> dict[str, object]:
    identity: dict[str, object] = {"kind": device.kind, "id": device.id}
    if device.kind == "virtual":
        identity |= {"total_bytes": device.total_bytes, "context_bytes": device.context_bytes}
    return identity
