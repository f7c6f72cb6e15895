"""The shapes of each family of models, read from their configs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.formula.architecture import Architecture, BlockKind, Linear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose blocks are attention and a gated MLP, each behind an RMS norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    """The figures that every family has, whatever its config calls them."""

    num_layers: int
    hidden: int
    inner: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def q(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.num_kv_heads * self.head_dim


def _read_widths(
    config: Mapping[str, object], *, num_kv_heads: int | None = None, head_dim: int | None = None
) -> _Widths:
    """The usual names; what a config leaves out is its family's default, else as for plain attention."""
    hidden, inner = count_in(config, "hidden_size"), count_in(config, "intermediate_size")
    heads = count_in(config, "num_attention_heads")
    return _Widths(
        hidden=hidden,
        inner=inner,
        num_heads=heads,
        num_kv_heads=count_in(config, "num_key_value_heads", default=num_kv_heads or heads),
        head_dim=count_in(config, "head_dim", default=head_dim or hidden // heads),
        num_layers=count_in(config, "num_hidden_layers"),
    )


def _decoder(  # noqa: PLR0913 - what families differ in
    config: Mapping[str, object],
    widths: _Widths,
    *,
    linears: tuple[Linear, ...],
    norm_widths: tuple[int, ...],
    window: object = None,
    is_tied: bool = False,
) -> Architecture:
    """A model whose blocks are alike; `window` is None or no number where attention is full."""
    return Architecture(
        model_type=str(config.get("model_type")),
        num_layers=widths.num_layers,
        hidden_size=widths.hidden,
        intermediate_size=widths.inner,
        num_heads=widths.num_heads,
        num_kv_heads=widths.num_kv_heads,
        head_dim=widths.head_dim,
        vocab_size=count_in(config, "vocab_size"),
        tie_word_embeddings=config.get("tie_word_embeddings", is_tied) is True,
        sliding_window=window if isinstance(window, int) else None,
        linears=linears,
        norm_widths=norm_widths,
    )


def _read_llama_like(config: Mapping[str, object]) -> Architecture:
    widths, model_type = _read_widths(config), config.get("model_type")
    hidden, head_dim = widths.hidden, widths.head_dim
    # Qwen2 has biases on q, k and v and none on o, whatever its config says (modeling_qwen2.py).
    has_bias = model_type == "qwen2" or config.get("attention_bias") is True
    has_o_bias = model_type != "qwen2" and config.get("attention_bias") is True
    return _decoder(
        config,
        widths,
        linears=(
            *_attention(widths, has_bias=has_bias)[:3],
            Linear(
                name="o_proj",
                in_features=widths.q,
                out_features=hidden,
                has_bias=has_o_bias,
                parent="self_attn",
            ),
            *_gated_mlp(hidden, widths.inner, has_bias=config.get("mlp_bias") is True),
        ),
        norm_widths=(hidden, hidden, head_dim, head_dim) if model_type == "qwen3" else (hidden, hidden),
        window=config.get("sliding_window") if config.get("use_sliding_window", True) is True else None,
    )


def _read_gemma2(config: Mapping[str, object]) -> Architecture:
    """Gemma 2: a gated MLP, four norms a block, tied embeddings; every other block attends to a window.

    Defaults are those of `Gemma2Config`, whose files leave out what does not differ from them.
    """
    widths = _read_widths(config, num_kv_heads=4, head_dim=256)
    has_bias = config.get("attention_bias") is True
    return _decoder(
        config,
        widths,
        linears=(*_attention(widths, has_bias=has_bias), *_gated_mlp(widths.hidden, widths.inner)),
        norm_widths=(widths.hidden,) * 4,
        window=count_in(config, "sliding_window", default=4096),
        is_tied=True,
    )


def _read_phi(config: Mapping[str, object]) -> Architecture:
    """Phi-1 and Phi-2: attention and a plain MLP side by side behind one layer norm; biases everywhere."""
    if config.get("qk_layernorm") is True:
        raise ConfigError("no formula knows the shapes of a phi model with qk_layernorm")
    widths = _read_widths({**config, "head_dim": None})  # it has no such key
    hidden, inner = widths.hidden, widths.inner
    model = _decoder(
        config,
        widths,
        linears=(
            *_attention(widths, has_bias=True, output="dense"),
            Linear(name="fc1", in_features=hidden, out_features=inner, has_bias=True, parent="mlp"),
            Linear(name="fc2", in_features=inner, out_features=hidden, has_bias=True, parent="mlp"),
        ),
        norm_widths=(hidden,),
    )
    return replace(model, has_norm_bias=True, has_output_bias=True)


def _read_gpt2(config: Mapping[str, object]) -> Architecture:
    """GPT-2: one matrix for q, k and v, a plain MLP, layer norms, a learned table of positions."""
    hidden, heads = count_in(config, "n_embd"), count_in(config, "n_head")
    inner = count_in(config, "n_inner", default=4 * hidden)
    widths = _Widths(
        hidden=hidden,
        inner=inner,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        num_layers=count_in(config, "n_layer"),
    )
    model = _decoder(
        config,
        widths,
        linears=(
            Linear(name="c_attn", in_features=hidden, out_features=3 * hidden, has_bias=True, parent="attn"),
            Linear(name="c_proj", in_features=hidden, out_features=hidden, has_bias=True, parent="attn"),
            Linear(name="c_fc", in_features=hidden, out_features=inner, has_bias=True, parent="mlp"),
            Linear(name="c_proj", in_features=inner, out_features=hidden, has_bias=True, parent="mlp"),
        ),
        norm_widths=(hidden, hidden),
        is_tied=True,
    )
    return replace(model, has_norm_bias=True, num_positions=count_in(config, "n_positions"))


def _read_mixtral(config: Mapping[str, object]) -> Architecture:
    """Mixtral: Mistral's attention, and in place of the MLP gated experts behind a router."""
    widths = _read_widths(config)
    hidden, window = widths.hidden, config.get("sliding_window")
    model = _decoder(config, widths, linears=_attention(widths), norm_widths=(hidden, hidden), window=window)
    return replace(
        model,
        num_experts=count_in(config, "num_local_experts"),
        num_experts_per_token=count_in(config, "num_experts_per_tok"),
        expert_linears=_gated_mlp(hidden, widths.inner),
    )


def _read_qwen3_moe(config: Mapping[str, object]) -> Architecture:
    """Qwen3-MoE: Qwen3's attention, and gated experts behind a router; some blocks may have a plain MLP."""
    widths = _read_widths(config)
    hidden = widths.hidden
    attention = _attention(widths, has_bias=config.get("attention_bias") is True)
    model = _decoder(
        config,
        widths,
        linears=attention,
        norm_widths=(hidden, hidden, widths.head_dim, widths.head_dim),
        window=config.get("sliding_window") if config.get("use_sliding_window") is True else None,
    )
    dense = BlockKind(
        places=_dense_blocks(config, num_layers=widths.num_layers),
        linears=(*attention, *_gated_mlp(hidden, widths.inner)),
        norm_widths=model.norm_widths,
    )
    return replace(
        model,
        num_experts=count_in(config, "num_experts"),
        num_experts_per_token=count_in(config, "num_experts_per_tok"),
        expert_linears=_gated_mlp(hidden, count_in(config, "moe_intermediate_size")),
        odd_blocks=(dense,) if dense.places else (),
    )


def _dense_blocks(config: Mapping[str, object], *, num_layers: int) -> tuple[int, ...]:
    """Blocks with one MLP, by the rule of `Qwen3MoeDecoderLayer`."""
    plain = config.get("mlp_only_layers")
    only_mlp = set(plain) if isinstance(plain, list) else set()
    step = count_in(config, "decoder_sparse_step", default=1)
    return tuple(layer for layer in range(num_layers) if layer in only_mlp or (layer + 1) % step != 0)


def _read_qwen3_5_text(config: Mapping[str, object]) -> Architecture:
    """The language model of Qwen3.5: most blocks have linear attention (a gated delta net), some softmax.

    `linears` describes the blocks with softmax attention, whose queries carry an output gate.
    """
    types = config.get("layer_types")
    if not isinstance(types, list):
        raise ConfigError("the model's config gives no layer_types", hint="a Qwen3.5 config lists them")
    widths = _read_widths({**config, "num_hidden_layers": len(types)}, head_dim=256)
    hidden, mlp = widths.hidden, _gated_mlp(widths.hidden, widths.inner)
    model = _decoder(
        config,
        widths,
        linears=(
            Linear(name="q_proj", in_features=hidden, out_features=2 * widths.q, parent="self_attn"),
            *_attention(widths)[1:],
            *mlp,
        ),
        norm_widths=(hidden, hidden, widths.head_dim, widths.head_dim),
    )
    places = tuple(place for place, kind in enumerate(types) if kind == "linear_attention")
    return replace(model, odd_blocks=(_delta_net(config, hidden, mlp, places=places),))


def _delta_net(
    config: Mapping[str, object], hidden: int, mlp: tuple[Linear, ...], *, places: tuple[int, ...]
) -> BlockKind:
    num_value_heads = count_in(config, "linear_num_value_heads")
    value_head_dim = count_in(config, "linear_value_head_dim")
    key_width = count_in(config, "linear_num_key_heads") * count_in(config, "linear_key_head_dim")
    value_width = num_value_heads * value_head_dim
    qkv_width = 2 * key_width + value_width
    convolution = qkv_width * count_in(config, "linear_conv_kernel_dim")
    return BlockKind(
        places=places,
        linears=(
            Linear(name="in_proj_qkv", in_features=hidden, out_features=qkv_width, parent="linear_attn"),
            Linear(name="in_proj_z", in_features=hidden, out_features=value_width, parent="linear_attn"),
            Linear(name="in_proj_b", in_features=hidden, out_features=num_value_heads, parent="linear_attn"),
            Linear(name="in_proj_a", in_features=hidden, out_features=num_value_heads, parent="linear_attn"),
            Linear(name="out_proj", in_features=value_width, out_features=hidden, parent="linear_attn"),
            *mlp,
        ),
        norm_widths=(hidden, hidden, value_head_dim),
        num_other_parameters=convolution + 2 * num_value_heads,  # dt_bias and A_log, one element a head
    )


def _attention(widths: _Widths, *, has_bias: bool = False, output: str = "o_proj") -> tuple[Linear, ...]:
    hidden, q, kv = widths.hidden, widths.q, widths.kv
    linear = partial(Linear, has_bias=has_bias, parent="self_attn")
    return (
        linear(name="q_proj", in_features=hidden, out_features=q),
        linear(name="k_proj", in_features=hidden, out_features=kv),
        linear(name="v_proj", in_features=hidden, out_features=kv),
        linear(name=output, in_features=q, out_features=hidden),
    )


def _gated_mlp(hidden: int, inner: int, *, has_bias: bool = False) -> tuple[Linear, ...]:
    return (
        Linear(name="gate_proj", in_features=hidden, out_features=inner, has_bias=has_bias, parent="mlp"),
        Linear(name="up_proj", in_features=hidden, out_features=inner, has_bias=has_bias, parent="mlp"),
        Linear(name="down_proj", in_features=inner, out_features=hidden, has_bias=has_bias, parent="mlp"),
    )


def count_in(config: Mapping[str, object], name: str, *, default: int | None = None) -> int:
    """A figure of a config; the default stands for one that is absent or null.

    Raises:
        ConfigError: the figure is not there, or is no count.
    """
    value = config.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"the model's config gives no {name}",
            hint="a Hugging Face config.json gives it as a whole number above 0",
        )
    return value


FAMILIES: Mapping[str, Callable[[Mapping[str, object]], Architecture]] = {
    **dict.fromkeys(LLAMA_LIKE, _read_llama_like),
    "gemma2": _read_gemma2,
    "phi": _read_phi,
    "gpt2": _read_gpt2,
    "mixtral": _read_mixtral,
    "qwen3_moe": _read_qwen3_moe,
    "qwen3_5_text": _read_qwen3_5_text,
}
"""What reads a config, by the family's own name (transformers' `model_type`)."""
