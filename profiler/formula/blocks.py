"""Which families' blocks are followed, and by what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.block import Block, BlockCost, follow
from profiler.formula.gemma2_block import Gemma2Block
from profiler.formula.gpt2_block import Gpt2Block
from profiler.formula.llama_block import LlamaBlock
from profiler.formula.mixture_block import MixtureBlock
from profiler.formula.phi_block import PhiBlock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.formula.attention import AttentionCost

FAMILIES: Mapping[str, type[Block]] = {
    "llama": LlamaBlock,
    "mistral": LlamaBlock,
    "qwen2": LlamaBlock,
    "qwen3": LlamaBlock,
    "gemma2": Gemma2Block,
    "gpt2": Gpt2Block,
    "phi": PhiBlock,
    "mixtral": MixtureBlock,
    "qwen3_moe": MixtureBlock,
}
"""The block of each family, by transformers' `model_type`."""


def block_cost(attention: AttentionCost) -> BlockCost:
    """What one block of a model holds, around its attention."""
    return follow(FAMILIES[attention.architecture.model_type], attention)
