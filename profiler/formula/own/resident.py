"""What stays in memory from step to step: weights, quantization state, adapters, optimizer state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.own.ledger import rounded
from profiler.formula.own.linear import BLOCK_SIZE, FLOAT32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.formula.architecture import Architecture, Linear
    from profiler.formula.own.scheme import Scheme

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
    """One tensor of weights.

    Attributes:
        num_rows: of a matrix; 1 for a norm's weight and a bias, which are vectors.
        num_columns: of a matrix; the elements of a vector.
        element_bytes: bytes an element.
        num_matrices: matrices that are stacked in it: one an expert.
        is_embedding: whether it is a table that `nn.Embedding` looks up.
    """

    num_rows: int
    num_columns: int
    element_bytes: int
    num_matrices: int = 1
    is_embedding: bool = False

    @property
    def num_elements(self) -> int:
        """Elements of the tensor."""
        return self.num_matrices * self.num_rows * self.num_columns

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
    others = sum(tensor.bytes * count for tensor, count in other_tensors(architecture, scheme))
    return architecture.num_layers * matrices + others


def other_tensors(architecture: Architecture, scheme: Scheme) -> Iterator[tuple[Tensor, int]]:
    """Every parameter that is no linear layer's matrix, and how many there are of its kind.

    None of them is quantized: norms, biases, embeddings, the output matrix, and experts.
    """
    tables = scheme.tables
    size, layers, hidden = scheme.others, architecture.num_layers, architecture.hidden_size
    for width in _vectors(architecture):
        yield Tensor(num_rows=1, num_columns=width, element_bytes=size), layers
    for num_matrices, rows, columns in _expert_shapes(architecture):
        yield (
            Tensor(num_rows=rows, num_columns=columns, element_bytes=size, num_matrices=num_matrices),
            layers,
        )
    per_norm = architecture.num_norm_parameters_per_width
    yield Tensor(num_rows=1, num_columns=hidden, element_bytes=size), per_norm
    rows = architecture.vocab_size
    yield Tensor(num_rows=rows, num_columns=hidden, element_bytes=tables, is_embedding=True), 1
    if architecture.num_positions:
        positions = architecture.num_positions
        yield Tensor(num_rows=positions, num_columns=hidden, element_bytes=tables, is_embedding=True), 1
    if not architecture.tie_word_embeddings:
        yield Tensor(num_rows=rows, num_columns=hidden, element_bytes=tables), 1
    if architecture.has_output_bias:
        yield Tensor(num_rows=1, num_columns=rows, element_bytes=size), 1


def _vectors(architecture: Architecture) -> Iterator[int]:
    """Elements of every vector of a block: scales and biases of norms, biases of linear layers."""
    for width in architecture.norm_widths:
        yield from (width,) * architecture.num_norm_parameters_per_width
    for linear in architecture.linears:
        if linear.has_bias:
            yield linear.out_features


def _expert_shapes(architecture: Architecture) -> tuple[tuple[int, int, int], ...]:
    """Matrices, rows and columns of a block's experts (gate and up side by side, down) and its router."""
    if architecture.is_dense:
        return ()
    hidden, num_experts = architecture.hidden_size, architecture.num_experts
    inner = architecture.expert_linears[0].out_features
    return ((num_experts, 2 * inner, hidden), (num_experts, hidden, inner), (1, num_experts, hidden))


def quantization_state_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """Scales, codes and offsets of quantized matrices."""
    return architecture.num_layers * sum(
        sum(map(whole, _state(linear.num_weights, linear.out_features, scheme)))
        for linear in architecture.linears
    )


def adapter_tensors(architecture: Architecture, scheme: Scheme) -> tuple[Tensor, ...]:
    """A and B of every adapter of one block: `rank x in` and `out x rank`."""
    shapes = [
        shape
        for linear in architecture.linears
        if scheme.is_adapted(linear)
        for shape in ((scheme.rank, linear.in_features), (linear.out_features, scheme.rank))
    ]
    if scheme.adapts_experts(architecture):
        shapes += _expert_adapter_shapes(architecture, scheme)
    return tuple(
        Tensor(num_rows=rows, num_columns=columns, element_bytes=scheme.adapter_size)
        for rows, columns in shapes
    )


def _expert_adapter_shapes(architecture: Architecture, scheme: Scheme) -> list[tuple[int, int]]:
    """A and B of all experts in one tensor each, those of gate and up of twice the rank; the router's."""
    gate_up, down, router = _expert_shapes(architecture)
    shapes = []
    for (num_matrices, rows, columns), rank in (
        (gate_up, 2 * scheme.rank),
        (down, scheme.rank),
        (router, scheme.rank),
    ):
        shapes += [(num_matrices * rank, columns), (rows, num_matrices * rank)]
    return shapes


def adapters_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """A and B of every adapter of the model."""
    return architecture.num_layers * sum(tensor.bytes for tensor in adapter_tensors(architecture, scheme))


def embedding_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """The embedding matrix as it is kept; an untied output matrix has the same size."""
    return whole(architecture.num_embedding_parameters * scheme.tables)


def loading_bytes(architecture: Architecture, scheme: Scheme) -> int:
    """What is held beyond the weights at the worst moment of loading and preparing them.

    A matrix is quantized on the card from its 16-bit copy; then each other tensor is cast to float32. The
    matrices of the experts, which checkpoints keep one by one, are stacked: gates and ups first, then both.
    """
    hidden, size = architecture.hidden_size, scheme.weights
    stack = 0
    if not architecture.is_dense:
        stack = architecture.num_experts * architecture.expert_linears[0].out_features * hidden * size
    if scheme.base == "plain":
        return whole(2 * stack)
    matrix = max(linear.num_weights for linear in architecture.linears) * size
    if scheme.others == size:
        return whole(max(matrix, 2 * stack))
    table = architecture.num_embedding_parameters * size
    # The table, at least the output matrix, is cast after the last block's experts.
    return whole(max(matrix, table, stack - table))


def trained_tensors(architecture: Architecture, scheme: Scheme) -> Iterator[tuple[Tensor, int]]:
    """Every trained tensor of the model, and how many there are of its kind."""
    if not scheme.trains_weights:
        for tensor in adapter_tensors(architecture, scheme):
            yield tensor, architecture.num_layers
        return
    for linear in architecture.linears:
        yield (
            Tensor(
                num_rows=linear.out_features, num_columns=linear.in_features, element_bytes=scheme.weights
            ),
            architecture.num_layers,
        )
    yield from other_tensors(architecture, scheme)


def buffers_bytes(architecture: Architecture) -> int:
    """The rotary frequencies, which the model keeps twice, and the scale of Gemma's embeddings."""
    scale = whole(FLOAT32) if architecture.model_type == "gemma2" else 0
    frequencies = 0 if architecture.num_positions else whole(architecture.head_dim // 2 * FLOAT32)
    return 2 * frequencies + scale


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
            if not scheme.double_quant:
                return (num_scales * FLOAT32, CODE_BYTES)
            nested = -(-num_scales // NESTED_BLOCK_SIZE) * FLOAT32
            return (num_scales, nested, CODE_BYTES, NESTED_CODE_BYTES, OFFSET_BYTES)


def whole(size: int) -> int:
    """Bytes of one tensor as the allocator counts them."""
    result = rounded(size)
    assert isinstance(result, int)
    return result
