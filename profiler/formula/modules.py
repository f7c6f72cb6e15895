"""Which modules a model has, by name, as transformers makes them of its config: what adapters can go to."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.formula.families import LLAMA_LIKE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from profiler.formula.architecture import Architecture, BlockKind


class ModuleKind(StrEnum):
    """What a module is to peft: `other` ones take no adapter, and naming one ends in an error.

    A depthwise convolution is one of these: its adapter's rank would have to be a multiple of its channels.
    """

    LINEAR = "linear"
    EMBEDDING = "embedding"
    OTHER = "other"


OUTPUT = "lm_head"
"""The output matrix, which `all-linear` leaves out."""
FUSED_EXPERTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"mixtral": ("w1", "w3"), "qwen3_moe": ("gate_proj", "up_proj")}
)
"""An expert's matrices that are one tensor, by family: peft adapts both or neither."""
_DOWN = {"mixtral": "w2", "qwen3_moe": "down_proj"}

_NORMS = ("input_layernorm", "post_attention_layernorm")
_IN_BLOCK: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys((*LLAMA_LIKE, "qwen3_5_text"), (*_NORMS, "mlp.act_fn")),
        "gemma2": (*_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm", "mlp.act_fn"),
        "phi": ("input_layernorm", "resid_dropout", "mlp.activation_fn"),
        "gpt2": (*("ln_1", "ln_2", "attn.attn_dropout", "attn.resid_dropout", "mlp.act", "mlp.dropout"),),
        **dict.fromkeys(FUSED_EXPERTS, _NORMS),
    }
)
"""Modules of a block besides its linear layers, and what those are in."""
_AROUND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"gpt2": ("ln_f", "drop"), "phi": ("final_layernorm", "rotary_emb", "embed_dropout")}
)
"""Modules of a model besides blocks and embeddings; other families have `norm` and `rotary_emb`."""


@lru_cache(maxsize=64)
def modules_of(architecture: Architecture) -> Mapping[str, ModuleKind]:
    """Every module of a model by its path, such as `model.layers.0.self_attn.q_proj`, without its root."""
    family = architecture.model_type
    is_gpt2 = family == "gpt2"
    model, blocks = ("transformer", "h") if is_gpt2 else ("model", "layers")
    embeddings = ("wte", "wpe") if is_gpt2 else ("embed_tokens",)
    found = {model: ModuleKind.OTHER, f"{model}.{blocks}": ModuleKind.OTHER, OUTPUT: ModuleKind.LINEAR}
    found |= {f"{model}.{name}": ModuleKind.EMBEDDING for name in embeddings}
    found |= {f"{model}.{name}": ModuleKind.OTHER for name in _AROUND.get(family, ("norm", "rotary_emb"))}
    for block in architecture.blocks:
        within = dict(_in_block(architecture, block))
        for place in block.places:
            path = f"{model}.{blocks}.{place}"
            found[path] = ModuleKind.OTHER
            found |= {f"{path}.{name}": kind for name, kind in within.items()}
    return MappingProxyType(found)


def stacked_experts(architecture: Architecture) -> tuple[str, ...]:
    """What checkpoints call the matrices of the router and of an expert, which are no modules.

    transformers 5 keeps each in one tensor with those of the other experts; peft takes their old names for
    them (`transformers_weight_conversion`).
    """
    family = architecture.model_type
    return () if architecture.is_dense else ("gate", *FUSED_EXPERTS[family], _DOWN[family])


def _in_block(architecture: Architecture, block: BlockKind) -> Iterator[tuple[str, ModuleKind]]:
    family = architecture.model_type
    names = [*_IN_BLOCK[family]]
    parents = {linear.parent for linear in block.linears}
    if "self_attn" in parents and architecture.has_head_norms:
        names += ["self_attn.q_norm", "self_attn.k_norm"]
    if "linear_attn" in parents:
        names += ["linear_attn.norm", "linear_attn.conv1d"]
    if block.num_experts:
        names += ["mlp.experts.act_fn", "mlp.gate"]
    elif family in FUSED_EXPERTS:
        names.append("mlp.act_fn")
    for path in [*names, *parents]:
        yield from ((parent, ModuleKind.OTHER) for parent in accumulate(path.split("."), _joined))
    yield from ((linear.path, ModuleKind.LINEAR) for linear in block.linears)


def _joined(parent: str, name: str) -> str:
    return f"{parent}.{name}"
