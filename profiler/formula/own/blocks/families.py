"""Which families' blocks are followed, and by what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.own.block import Block, BlockCost, follow
from profiler.formula.own.blocks.gemma2 import Gemma2Block
from profiler.formula.own.blocks.gpt2 import Gpt2Block
from profiler.formula.own.blocks.llama import LlamaBlock
from profiler.formula.own.blocks.mixture import MixtureBlock
from profiler.formula.own.blocks.phi import PhiBlock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.formula.own.attention import AttentionCost

BLOCKS: Mapping[str, type[Block]] = {
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
    return follow(BLOCKS[attention.architecture.model_type], attention)
