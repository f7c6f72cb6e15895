"""What the QLoRA hardware guide says: static memory of 4-bit weights, and the card a size needs.

Source: Sanjay Saini, "QLORA Hardware: The GPU Spec That Stops OOM Crashes" (June 2026): "The 4-Bit NF4 Base
Weight Allocation", "The Minimum GPU Hardware Tiers for 7B, 13B, and 70B Architectures" and its questions. A
GB is 10^9 bytes.

The guide says that adapters, gradients, optimizer states and activations come on top of the static memory,
and that activations grow with the square of the length; it gives no figure for any of them, so they are no
terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Shape
from profiler.formula.others.facts import GB, at_peak, find_class, first_of, only, only_sizes

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

_GUIDE = 'S. Saini, "QLORA Hardware: The GPU Spec That Stops OOM Crashes" (June 2026)'
_FLOOR_GB = {7: 12, 13: 24, 70: 48}
"""The low ends of 12-16, 24 and 48-80 GB: the guide's floors, which its answers repeat as minima."""


def static_bytes(num_parameters: int) -> int:
    """V_static = P * 0.5 GB, P in billions: half a byte a parameter, the constants of blocks left out."""
    return num_parameters // 2


def _evaluate_static(_: JobSpec, architecture: Architecture, __: Shape) -> Breakdown:
    return at_peak({"static": static_bytes(architecture.num_parameters)})


def _evaluate_floor(_: JobSpec, architecture: Architecture, __: Shape) -> Breakdown:
    figure = find_class(architecture, _FLOOR_GB)
    assert figure is not None, "the refusal comes first"
    return at_peak({"floor": figure * GB})


HARDWARE_GUIDE_STATIC = Formula(
    id="hardware-guide-static",
    title="QLoRA hardware guide, static memory",
    source=f'{_GUIDE}, "The 4-Bit NF4 Base Weight Allocation"',
    predicts="the 4-bit weights alone, before any training",
    terms={"static": "P * 0.5"},
    evaluate=_evaluate_static,
    refusal=only("qlora"),
)

HARDWARE_GUIDE_FLOOR = Formula(
    id="hardware-guide-floor",
    title="QLoRA hardware guide, smallest card",
    source=f'{_GUIDE}, "The Minimum GPU Hardware Tiers"',
    predicts="the smallest card that the job fits",
    terms={"floor": "12 GB for 7B, 24 for 13B, 48 for 70B"},
    evaluate=_evaluate_floor,
    refusal=first_of(only("qlora"), only_sizes(*_FLOOR_GB)),
)
