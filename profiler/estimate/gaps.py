"""What reserved memory and device use have on top of allocated memory, and what that grows with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import largest
from profiler.units import MIB

if TYPE_CHECKING:
    from profiler.formula.breakdown import Breakdown, Quantity

CONSTANT = "constant"
"""A feature that every job has alike: its factor is a number of MiB."""
CONTEXT = "context"
"""What the CUDA context takes on the card."""


def reserved_features(breakdown: Breakdown) -> dict[str, Quantity]:
    """What the gap between reserved and allocated memory is made of, in bytes: each times its factor.

    The allocator keeps blocks that were freed. What it cannot reuse grows with the largest tensors that come
    and go, so every term of the formula is a feature, as it is at the instant where it is largest.
    """
    terms = dict.fromkeys(term for instant in breakdown.instants for term in instant.terms)
    return {
        term: largest(*(instant.terms.get(term, 0) for instant in breakdown.instants)) for term in terms
    } | {CONSTANT: MIB}


def device_features(context_bytes: Quantity) -> dict[str, Quantity]:
    """What the gap between device use and reserved memory is made of, in bytes: each times its factor."""
    return {CONTEXT: context_bytes, CONSTANT: MIB}
