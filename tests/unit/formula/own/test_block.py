"""Bytes a block saves, against figures a token worked out by hand from the modelling code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from profiler.formula.own.attention import AttentionCost
from profiler.formula.own.blocks.families import block_cost
from profiler.formula.own.scheme import scheme_of
from tests.unit.formula.shapes import a_model, a_shape, a_tuning

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.own.block import BlockCost

# A length at which no tensor of a block is rounded: every figure below is exact.
TOKENS = 1024
HIDDEN, INNER, QUERIES, KEYS, HEADS = 256, 704, 256, 128, 4
LLAMA = a_model(hidden_size=HIDDEN, intermediate_size=INNER)


def cost(
    kind: str, *, architecture: Architecture = LLAMA, seq_len: int = TOKENS, **changes: Any
) -> BlockCost:
    job = a_tuning(kind, **changes)
    shape = a_shape(TOKENS // seq_len, seq_len)
    attention = AttentionCost(
        job=job, architecture=architecture, scheme=scheme_of(job), shape=shape, is_windowed=False
    )
    return block_cost(attention)


def saved_per_token(kind: str, **changes: Any) -> float:
    return int(str(cost(kind, **changes).saved)) / TOKENS


def test_full_training_saves_what_every_product_needs() -> None:
    norm = HIDDEN * 4 + 4 + HIDDEN * 2 + HIDDEN * 2  # float32 input, deviation, normed, scaled
    attention = (QUERIES + 2 * KEYS + QUERIES) * 2 + HEADS * 4  # q, k, v, result, flash's normalizers
    mlp = 4 * INNER * 2  # gate, activated, up, product
    assert saved_per_token("full") == 2 * norm + attention + mlp


def test_lora_saves_a_float32_copy_for_every_adapter() -> None:
    norm = HIDDEN * 4 + 4
    inputs = (5 * HIDDEN + QUERIES + INNER) * 4  # q, k, v, gate, up each; o; down
    narrow = 7 * 16 * 4
    attention = (QUERIES + 2 * KEYS + QUERIES) * 2 + HEADS * 4
    mlp = 3 * INNER * 2  # gate, activated, up; the product only as down's copy
    assert saved_per_token("lora", method_rank=16) == 2 * norm + inputs + narrow + attention + mlp


def test_qlora_saves_one_input_for_all_the_adapters_that_share_it() -> None:
    """The residual stream is float32, so adapters compute with the very norm's output."""
    norm = HIDDEN * 4 + 4 + HIDDEN * 4  # input, deviation, output
    attention = (QUERIES + 2 * KEYS + QUERIES) * 4 + HEADS * 4
    mlp = 4 * INNER * 4
    assert saved_per_token("qlora", method_rank=16) == 2 * norm + 7 * 16 * 4 + attention + mlp


def test_dropout_saves_each_adapters_own_input_and_a_byte_a_mask() -> None:
    dry, wet = (saved_per_token("lora", method_dropout=dropout) for dropout in (0.0, 0.1))
    assert wet - dry == 5 * HIDDEN + QUERIES + INNER


def test_eager_attention_saves_float32_probabilities_and_their_16_bit_copy() -> None:
    sdpa, eager = (saved_per_token("full", attention=name) for name in ("sdpa", "eager"))
    repeated = 2 * (QUERIES - KEYS) * 2  # keys and values, once a query head
    attended = -HEADS * 4  # no normalizers, and the result is the output projection's input anyway
    assert eager - sdpa == HEADS * TOKENS * (4 + 2) + repeated + attended


def test_a_padded_mask_takes_the_kernel_that_repeats_keys_and_makes_a_bias() -> None:
    full, padded = (saved_per_token("full", attention_mask=mask) for mask in ("full", "padded"))
    bias = TOKENS * 2  # the mask as numbers, which every block has its own copy of
    assert padded - full == 2 * (QUERIES - KEYS) * 2 + bias


def test_a_shorter_length_saves_the_same_but_for_eager_scores() -> None:
    assert saved_per_token("full", seq_len=256) == saved_per_token("full", seq_len=TOKENS)
    short, long = (saved_per_token("full", attention="eager", seq_len=length) for length in (256, TOKENS))
    assert long - short == HEADS * (TOKENS - 256) * 6


def test_8_bit_products_keep_their_inputs_in_spite_of_checkpointing() -> None:
    widths = 2 * HIDDEN + QUERIES + INNER  # before q, k and v; before gate and up; before o; before down
    assert cost("int8-lora").escaped == TOKENS * widths * 4
    assert cost("qlora").escaped == 0


@pytest.mark.parametrize("kind", ["full", "lora", "qlora", "int8-lora"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_differentiating_a_block_holds_at_least_what_it_saved(
    kind: str, attention: str, model_type: str
) -> None:
    architecture = a_model(hidden_size=HIDDEN, intermediate_size=INNER, model_type=model_type)
    block = cost(kind, architecture=architecture, attention=attention)
    assert int(str(block.backward)) > int(str(block.saved))
    assert int(str(block.forward)) >= int(str(block.saved))
    assert block.output == TOKENS * HIDDEN * (4 if kind in {"qlora", "int8-lora"} else 2)


def test_the_gradients_of_a_block_are_its_matrices_or_its_adapters() -> None:
    matrices = HIDDEN * (QUERIES + 2 * KEYS) + QUERIES * HIDDEN + 3 * HIDDEN * INNER
    assert cost("full").gradients == matrices * 2
    widths = 3 * HIDDEN + QUERIES + 2 * KEYS + QUERIES + HIDDEN + 3 * (HIDDEN + INNER)
    assert cost("lora", method_rank=8).gradients == 8 * widths * 4
