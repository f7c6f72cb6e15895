"""Which storages of a virtual device may hold true values, and how tensors lie in them."""

from __future__ import annotations

import torch

from profiler.virtual.torch_private import OVERLAP

KNOWN_LIMIT_BYTES = 16 << 20
"""Integer and boolean storages up to this size are kept true; csrc/copies.c knows the same figure."""
KEPT_FLOAT_LIMIT_BYTES = 64 << 10
"""Floating-point data copied from the host is kept up to this size, so that constants make the round trip."""

_overlap = OVERLAP.find()
INTEGRAL = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


def can_keep(tensor: torch.Tensor, *, is_copy: bool) -> bool:
    """Whether its values are to be known, where they can be; floating-point ones only of a copy."""
    size = tensor.untyped_storage().nbytes()
    if tensor.dtype in INTEGRAL:
        return size <= KNOWN_LIMIT_BYTES
    return is_copy and size <= KEPT_FLOAT_LIMIT_BYTES


def fills_storage(tensor: torch.Tensor) -> bool:
    """Whether it is all of its storage, each place once."""
    is_whole = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
    return is_whole and _overlap(tensor) == 0


def address_of(tensor: torch.Tensor) -> int:
    """Where its storage begins."""
    return tensor.untyped_storage().data_ptr()
