"""What an optimizer keeps for each trained tensor, and what its step holds for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from profiler.formula.own.linear import FLOAT32
from profiler.formula.own.resident import Tensor, whole
from profiler.jobs.choices import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable

MIN_8BIT_ELEMENTS = 4096
"""Smaller tensors are optimized in 32 bits (bitsandbytes `min_8bit_size`)."""
BLOCK_SIZE_8BIT = 256
"""Elements that share one scale in bitsandbytes' 8-bit optimizers."""
MIN_PAGED_ELEMENTS = 100_000
"""Smaller tensors are not paged (bitsandbytes `get_state_buffer`)."""
QMAP_BYTES = 256 * FLOAT32
"""The values of an 8-bit state; an optimizer has two such tables."""


def state_bytes(optimizer: Optimizer, tensors: Iterable[tuple[Tensor, int]]) -> int:
    """What stays from step to step, in the allocator: paged states are outside it."""
    tables = 2 * QMAP_BYTES if optimizer in _EIGHT_BIT else 0
    return tables + sum(count * sum(map(whole, _state(optimizer, tensor))) for tensor, count in tensors)


def step_bytes(
    optimizer: Optimizer, tensors: Iterable[tuple[Tensor, int]], *, is_foreach: bool = True
) -> int:
    """What the step holds besides its state.

    `foreach` AdamW takes the square roots of all second moments of a parameter group at once
    (torch/optim/adam.py, `_multi_tensor_adam`); matrices are one group, norms and biases the other. Without
    `foreach` each tensor takes its own roots, divided, while those of the one before are there still
    (`_single_tensor_adam`).
    """
    match optimizer:
        case Optimizer.ADAMW_TORCH if not is_foreach:
            return _single_step(tuple(tensors))
        case Optimizer.ADAMW_TORCH:
            matrices = norms = 0
            for tensor, count in tensors:
                if tensor.is_matrix:
                    matrices += tensor.bytes * count
                else:
                    norms += tensor.bytes * count
            return max(matrices, norms)
        case Optimizer.ADAFACTOR:
            return max((_adafactor_step(tensor) for tensor, _ in tensors), default=0)
        case (
            Optimizer.ADAMW_TORCH_FUSED
            | Optimizer.ADAMW_BNB_8BIT
            | Optimizer.PAGED_ADAMW_8BIT
            | Optimizer.PAGED_ADAMW_32BIT
            | Optimizer.SGD
        ):
            return 0
        case _:
            assert_never(optimizer)


_EIGHT_BIT = {Optimizer.ADAMW_BNB_8BIT, Optimizer.PAGED_ADAMW_8BIT}
_PAGED = {Optimizer.PAGED_ADAMW_8BIT, Optimizer.PAGED_ADAMW_32BIT}


def _state(optimizer: Optimizer, tensor: Tensor) -> tuple[int, ...]:
    """Bytes of each state of one tensor."""
    size, elements = tensor.num_elements * tensor.element_bytes, tensor.num_elements
    match optimizer:
        case Optimizer.ADAMW_TORCH:
            return (size, size)
        case Optimizer.ADAMW_TORCH_FUSED:
            return (size, size, FLOAT32)  # its count of steps is on the card
        case Optimizer.ADAMW_BNB_8BIT | Optimizer.PAGED_ADAMW_8BIT | Optimizer.PAGED_ADAMW_32BIT:
            return _bitsandbytes_state(optimizer, tensor)
        case Optimizer.SGD:
            return ()
        case Optimizer.ADAFACTOR:
            if not tensor.is_matrix:
                return (elements * FLOAT32,)
            factors = (tensor.num_rows, tensor.num_columns)  # Shazeer & Stern 2018, section 3
            return tuple(tensor.num_matrices * factor * FLOAT32 for factor in factors)
        case _:
            assert_never(optimizer)


def _bitsandbytes_state(optimizer: Optimizer, tensor: Tensor) -> tuple[int, ...]:
    """Both moments, and the scales of 8-bit ones; large moments of a paged optimizer are managed memory."""
    elements = tensor.num_elements
    is_paged = optimizer in _PAGED and elements >= MIN_PAGED_ELEMENTS
    is_narrow = optimizer in _EIGHT_BIT and elements >= MIN_8BIT_ELEMENTS and not tensor.is_embedding
    moment = elements if is_narrow else elements * FLOAT32
    scales = (-(-elements // BLOCK_SIZE_8BIT) * FLOAT32,) * 2 if is_narrow else ()
    return scales if is_paged else (moment, moment, *scales)


def _single_step(tensors: Iterable[tuple[Tensor, int]]) -> int:
    """Tables come before the blocks, whose matrices of one size follow each other; an output matrix after."""
    repeated = max((tensor.bytes for tensor, count in tensors if count > 1), default=0)
    single = (
        2 * tensor.bytes + (0 if tensor.is_embedding else repeated) for tensor, count in tensors if count == 1
    )
    return max(3 * repeated, *single, 0)


def _adafactor_step(tensor: Tensor) -> int:
    """Update and its factors' product, and of a 16-bit tensor the gradient and weights in float32.

    transformers/optimization.py, `Adafactor.step`; one tensor after the other.
    """
    num_copies = 2 if tensor.element_bytes == FLOAT32 else 4
    return num_copies * whole(tensor.num_elements * FLOAT32)
