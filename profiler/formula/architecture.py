"""The shapes a formula needs of a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """One linear layer of a block.

    Attributes:
        name: the module's own name, such as `q_proj`.
        in_features: width of its input.
        out_features: width of its output.
        has_bias: whether it adds one.
        parent: the module of the block that it is in, such as `self_attn`.
    """

    name: str
    in_features: int
    out_features: int
    has_bias: bool = False
    parent: str

    @property
    def path(self) -> str:
        """Where it is in its block, such as `self_attn.q_proj`."""
        return f"{self.parent}.{self.name}"

    @property
    def num_weights(self) -> int:
        """Elements of the matrix."""
        return self.in_features * self.out_features

    @property
    def num_parameters(self) -> int:
        """Elements of the matrix and the bias."""
        return self.num_weights + (self.out_features if self.has_bias else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockKind:
    """One kind of block, in a model that has several.

    Attributes:
        places: which blocks of the model are such, from 0.
        linears: the linear layers of one of them.
        norm_widths: the widths of its norms.
        num_experts: expert MLPs of one of them.
        expert_linears: the linear layers of one expert.
        num_other_parameters: elements in tensors that are neither: a convolution, a vector a head.
    """

    places: tuple[int, ...]
    linears: tuple[Linear, ...]
    norm_widths: tuple[int, ...]
    num_experts: int = 0
    expert_linears: tuple[Linear, ...] = ()
    num_other_parameters: int = 0

    @property
    def count(self) -> int:
        """How many blocks of the model are such."""
        return len(self.places)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A decoder-only transformer, as its config describes it.

    Attributes:
        model_type: the family, by transformers' own name.
        num_layers: blocks.
        hidden_size: width of the residual stream.
        intermediate_size: width of the MLP between its matrices.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        head_dim: width of a head.
        vocab_size: rows of the embedding.
        tie_word_embeddings: whether the output matrix is the embedding itself.
        sliding_window: tokens a window spans; None for full attention.
        linears: the linear layers of one block, in the order the forward pass uses them.
        norm_widths: the widths of the norms of one block.
        has_norm_bias: whether a norm has a bias beside its scale (a layer norm; an RMS norm has none).
        has_output_bias: whether the output matrix adds a bias.
        num_positions: rows of a learned table of positions; 0 where positions are rotations.
        num_experts: expert MLPs of one block; 0 for a dense model.
        num_experts_per_token: how many of them a token passes through.
        expert_linears: the linear layers of one expert. transformers 5 keeps those of all experts, and the
            router, in one tensor each, which are no `nn.Linear`.
        odd_blocks: blocks, among `num_layers`, that `linears` and `norm_widths` do not describe.
    """

    model_type: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    sliding_window: int | None
    linears: tuple[Linear, ...]
    norm_widths: tuple[int, ...]
    has_norm_bias: bool = False
    has_output_bias: bool = False
    num_positions: int = 0
    num_experts: int = 0
    num_experts_per_token: int = 0
    expert_linears: tuple[Linear, ...] = ()
    odd_blocks: tuple[BlockKind, ...] = ()

    @property
    def q_width(self) -> int:
        """Width of all queries of a token."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all keys of a token; of all values too."""
        return self.num_kv_heads * self.head_dim

    @property
    def has_head_norms(self) -> bool:
        """Whether queries and keys are normed head by head."""
        return self.head_dim in self.norm_widths

    @property
    def num_embedding_parameters(self) -> int:
        """Elements of the embedding matrix; an untied output matrix has as many."""
        return self.vocab_size * self.hidden_size

    @property
    def is_dense(self) -> bool:
        """Whether every token passes through every weight."""
        return self.num_experts == 0

    @property
    def num_norm_parameters_per_width(self) -> int:
        """Parameters of a norm by its width: a scale, and a bias where it has one."""
        return 2 if self.has_norm_bias else 1

    @cached_property
    def blocks(self) -> tuple[BlockKind, ...]:
        """Every kind of block and how many there are of it, the one that `linears` describes first."""
        odd = {place for block in self.odd_blocks for place in block.places}
        regular = BlockKind(
            places=tuple(place for place in range(self.num_layers) if place not in odd),
            linears=self.linears,
            norm_widths=self.norm_widths,
            num_experts=self.num_experts,
            expert_linears=self.expert_linears,
        )
        return (regular, *self.odd_blocks)

    @cached_property
    def num_output_parameters(self) -> int:
        """Elements of an output matrix of its own, with its bias; 0 where the embedding serves for it."""
        matrix = 0 if self.tie_word_embeddings else self.num_embedding_parameters
        return matrix + (self.vocab_size if self.has_output_bias else 0)

    @cached_property
    def num_parameters(self) -> int:
        """All parameters; tied embeddings count once. Equal to transformers' own count."""
        positions = self.num_positions * self.hidden_size
        blocks = sum(block.count * self._num_parameters_of(block) for block in self.blocks)
        final_norm = self.num_norm_parameters_per_width * self.hidden_size
        return self.num_embedding_parameters + positions + blocks + final_norm + self.num_output_parameters

    def _num_parameters_of(self, block: BlockKind) -> int:
        expert = sum(linear.num_parameters for linear in block.expert_linears)
        router = self.hidden_size
        return (
            sum(linear.num_parameters for linear in block.linears)
            + self.num_norm_parameters_per_width * sum(block.norm_widths)
            + block.num_experts * (expert + router)
            + block.num_other_parameters
        )
