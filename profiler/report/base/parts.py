"""What a job's device memory at its peak is made of, from the bottom of a stacked bar up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from profiler.records.schema import device_peak_bytes

if TYPE_CHECKING:
    from profiler.records.schema import Record

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "weights": ("weights_bytes", "quantization_state_bytes"),
    "adapters": ("adapter_bytes",),
    "optimizer state": ("optimizer_bytes",),
    "gradients": ("gradients_bytes",),
    "activations": ("activations_bytes",),
    "key-value cache": ("kv_cache_bytes",),
    "other tensors": ("buffers_bytes", "batch_bytes", "workspace_bytes", "other_bytes"),
}
"""The components of a record that are shown as one; every component is in one group."""
AT_THE_PEAK: Final = "more at the peak"
RESERVED: Final = "reserved, not allocated"
CONTEXT: Final = "CUDA context"
COLOURS: Final = {
    **{"weights": "blue", "adapters": "sky", "optimizer state": "orange", "gradients": "red"},
    **{"activations": "green", "key-value cache": "violet", "other tensors": "yellow"},
    **{AT_THE_PEAK: "pink", RESERVED: "grey", CONTEXT: "dark"},
}
"""The colour of each part, by a name that page and figures know."""


def parts_of(record: Record) -> dict[str, int]:
    """The bytes of each part; they add up to the peak of device memory, or of reserved where that is unknown.

    Components were counted at the end of a phase. What the largest moment of the run held beyond them, net,
    is a part of its own: at that moment some of the components may have been gone.
    """
    assert record.peak is not None, "a job that ran has a peak"
    counted = record.components.model_dump() if record.components else {}
    parts = {name: sum(counted.get(one, 0) for one in names) for name, names in GROUPS.items()}
    device = device_peak_bytes(record)
    parts[AT_THE_PEAK] = record.peak.allocated_bytes - sum(parts.values())
    parts[RESERVED] = record.peak.reserved_bytes - record.peak.allocated_bytes
    parts[CONTEXT] = device - record.peak.reserved_bytes if device else 0
    return {name: size for name, size in parts.items() if size > 0}
