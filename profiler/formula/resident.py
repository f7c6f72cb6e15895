"""What stays in memory from step to step: weights, quantization state, adapters, optimizer state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.ledger import rounded
from profiler.formula.linear import BLOCK_SIZE, FLOAT32
from profiler.spec.job import QLora

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.formula.architecture import Architecture, Linear
    from profiler.formula.scheme import Scheme

NESTED_BLOCK_SIZE = 256
"""Scales that share one scale under double quantization (bitsandbytes, `quantize_4bit`)."""
CODE_BYTES = 16 * FLOAT32
"""The sixteen values of a 4-bit type, which every 4-bit tensor has a copy of."""
NESTED_CODE_BYTES = 256 * FLOAT32
"""The 256 values of the 8-bit type of doubly quantized scales, with each tensor."""
OFFSET_BYTES = FLOAT32
"""The mean of doubly quantized scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One trained tensor.

    Attributes:
        num_rows: of a matrix; 1 for a norm's weight and a bias, which are vectors.
        num_columns: of a matrix; the elements of a vector.
        element_bytes: bytes an element.
        is_embedding: whether it is the embedding matrix.
    """

    num_rows: int
    num_columns: int
    element_bytes: int
    is_embedding: bool = False

    @property
    def num_elements(self) -> int:
        """Elements of the tensor."""
        return self.num_rows * self.num_columns

    @property
    def is_matrix(self) -> bool:
        """Whether it is none of the vectors, which are not decayed."""
        return self.num_rows > 1

    @property
    def bytes(self) -> int:
        """Bytes of the tensor as the allocator counts them."""
        return whole(self.num_elements * self.element_bytes)


def weights_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """Every parameter of the model as it is stored, 4-bit data two weights a byte."""
    matrices = sum(_stored(linear, scheme) for linear in architecture.linears)
    return architecture.num_layers * matrices + _others_bytes(architecture, scheme)


def quantization_state_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """Scales, codes and offsets of quantized matrices."""
    return architecture.num_layers * sum(
        sum(map(whole, _state(linear.num_weights, linear.out_features, scheme)))
        for linear in architecture.linears
    )


def adapter_tensors(architecture: Architecture, scheme: Scheme) -> tuple[Tensor, ...]:
    """A and B of every adapter of one block: `rank x in` and `out x rank`."""
    return tuple(
        Tensor(num_rows=rows, num_columns=columns, element_bytes=FLOAT32)
        for linear in architecture.linears
        if scheme.is_adapted(linear)
        for rows, columns in ((scheme.rank, linear.in_features), (linear.out_features, scheme.rank))
    )


def adapters_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """A and B of every adapter of the model."""
    return architecture.num_layers * sum(tensor.bytes for tensor in adapter_tensors(architecture, scheme))


def embedding_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """The embedding matrix as it is kept; an untied output matrix has the same size."""
    return whole(architecture.num_embedding_parameters * scheme.others)


def loading_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """The tensor that is held twice while a quantized model is loaded and prepared.

    A matrix is quantized on the card from its 16-bit copy; then each other tensor is cast to float32.
    """
    if scheme.base == "plain":
        return 0
    matrix = max(linear.num_weights for linear in architecture.linears) * scheme.weights
    table = architecture.num_embedding_parameters * scheme.weights if scheme.others != scheme.weights else 0
    return whole(max(matrix, table))


def trained_tensors(architecture: Architecture, scheme: Scheme) -> Iterator[tuple[Tensor, int]]:
    """Every trained tensor of the model, and how many there are of its kind."""
    layers = architecture.num_layers
    if not scheme.trains_weights:
        for tensor in adapter_tensors(architecture, scheme):
            yield tensor, layers
        return
    size, hidden = scheme.weights, architecture.hidden_size
    for linear in architecture.linears:
        yield Tensor(num_rows=linear.out_features, num_columns=linear.in_features, element_bytes=size), layers
        if linear.has_bias:
            yield Tensor(num_rows=1, num_columns=linear.out_features, element_bytes=size), layers
    for width in architecture.norm_widths:
        yield Tensor(num_rows=1, num_columns=width, element_bytes=size), layers
    yield Tensor(num_rows=1, num_columns=hidden, element_bytes=size), 1
    rows = architecture.vocab_size
    yield Tensor(num_rows=rows, num_columns=hidden, element_bytes=size, is_embedding=True), 1
    if not architecture.tie_word_embeddings:
        yield Tensor(num_rows=rows, num_columns=hidden, element_bytes=size), 1


def buffers_bytes(architecture: Architecture) -> int:
    """The rotary frequencies, which the model keeps twice."""
    return 2 * whole(architecture.head_dim // 2 * FLOAT32)


def _others_bytes(architecture: Architecture, scheme: Scheme) -> int:
    size = scheme.others
    norms = sum(whole(width * size) for width in architecture.norm_widths)
    biases = sum(whole(linear.out_features * size) for linear in architecture.linears if linear.has_bias)
    tables = (1 if architecture.tie_word_embeddings else 2) * whole(
        architecture.num_embedding_parameters * size
    )
    return architecture.num_layers * (norms + biases) + whole(architecture.hidden_size * size) + tables


def _stored(linear: Linear, scheme: Scheme) -> int:
    match scheme.base:
        case "plain":
            return whole(linear.num_weights * scheme.weights)
        case "8bit":
            return whole(linear.num_weights)
        case "4bit":
            return whole(-(-linear.num_weights // 2))


def _state(num_weights: int, out_features: int, scheme: Scheme) -> tuple[int, ...]:
    """Bytes of each tensor that comes with a quantized matrix."""
    match scheme.base:
        case "plain":
            return ()
        case "8bit":
            return (out_features * FLOAT32,)  # one scale a row
        case "4bit":
            num_scales = -(-num_weights // BLOCK_SIZE)
            is_double = isinstance(scheme.adapter, QLora) and scheme.adapter.double_quant
            if not is_double:
                return (num_scales * FLOAT32, CODE_BYTES)
            nested = -(-num_scales // NESTED_BLOCK_SIZE) * FLOAT32
            return (num_scales, nested, CODE_BYTES, NESTED_CODE_BYTES, OFFSET_BYTES)


def whole(size: int) -> int:
    """Bytes of one tensor as the allocator counts them."""
    result = rounded(size)
    assert isinstance(result, int)
    return result
