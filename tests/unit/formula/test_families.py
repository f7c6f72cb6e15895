from __future__ import annotations

import pytest

from profiler.errors import ConfigError
from profiler.formula.configs import architecture_of, read_architecture

QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 4,
    "hidden_size": 16,
    "intermediate_size": 40,
    "moe_intermediate_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": 100,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}


def test_gemma2_keeps_a_head_wider_than_its_share_of_the_stream() -> None:
    gemma = architecture_of("gemma-2-2b")
    assert (gemma.q_width, gemma.hidden_size) == (2048, 2304)
    assert gemma.sliding_window == 4096


def test_mixtral_has_eight_experts_of_which_a_token_meets_two() -> None:
    mixtral = architecture_of("mixtral-8x7b")
    assert (mixtral.num_experts, mixtral.num_experts_per_token) == (8, 2)
    assert not mixtral.is_dense
    assert [linear.name for linear in mixtral.linears] == ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.mark.parametrize(
    ("changes", "num_dense"),
    [({}, 0), ({"mlp_only_layers": [0, 3]}, 2), ({"decoder_sparse_step": 2}, 2)],
)
def test_a_mixture_may_have_dense_blocks(changes: dict[str, object], num_dense: int) -> None:
    mixture = read_architecture(QWEN3_MOE | changes)
    attention = 16 * (16 + 8 + 8) + 16 * 16 + 2 * 16 + 2 * 8
    experts, dense = 4 * (3 * 16 * 8 + 16), 3 * 16 * 40
    blocks = 4 * attention + (4 - num_dense) * experts + num_dense * dense
    assert mixture.num_parameters == 2 * 100 * 16 + 16 + blocks


def test_qwen3_5_has_linear_attention_in_three_of_four_blocks() -> None:
    qwen = architecture_of("qwen3.5-0.8b")
    regular, linear = qwen.blocks
    assert (regular.count, linear.count) == (6, 18)
    assert qwen.linears[0].out_features == 2 * qwen.q_width  # the queries and their gate


def test_phi_with_norms_of_queries_is_refused() -> None:
    with pytest.raises(ConfigError, match="qk_layernorm"):
        read_architecture({"model_type": "phi", "qk_layernorm": True})
