from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.evidence.claims.arithmetic import Calculation, Worked, calculate


def value(calculator: Calculation, **arguments: object) -> float:
    (worked,) = calculate(calculator, arguments)
    assert worked.working
    return worked.value


def test_weights_are_the_published_count_times_bits() -> None:
    assert value(Calculation.WEIGHTS, model="mistral-7b-v0.1", bits=16) == 2 * 7_241_732_096
    assert value(Calculation.WEIGHTS, parameters=175e9, bits=4) == 87_500_000_000
    assert value(Calculation.PARAMETERS, model="mixtral-8x7b") == 46_702_792_704


def test_a_cache_counts_key_value_heads_not_query_heads() -> None:
    assert value(Calculation.KV_CACHE, model="llama-2-7b", seq_len=2048) == 1_073_741_824
    assert value(Calculation.KV_CACHE, model="llama-3.1-8b", seq_len=2048) == 1_073_741_824 // 4
    assert value(Calculation.KV_CACHE, model="llama-2-7b", seq_len=2048, batch_size=4, bits=8) == 2 << 30


@given(tokens=st.integers(1, 1 << 17), times=st.integers(1, 16))
def test_a_cache_grows_with_its_tokens(tokens: int, times: int) -> None:
    arguments = {"model": "mistral-7b-v0.3", "from_tokens": tokens, "to_tokens": times * tokens}
    assert value(Calculation.KV_CACHE_GROWTH, **arguments) == pytest.approx(times)


def test_weights_and_cache_are_both_counted() -> None:
    arguments = {"model": "llama-2-7b", "cache_model": "llama-2-7b", "bits": 16, "seq_len": 2048}
    assert value(Calculation.WEIGHTS_AND_CACHE, **arguments) == 2 * 6_738_415_616 + 1_073_741_824


def test_adapters_have_a_row_and_a_column_a_rank() -> None:
    # q_proj and v_proj of Llama-2-7B are 4096 x 4096, in 32 blocks.
    arguments = {"model": "llama-2-7b", "rank": 8, "targets": "q_proj,v_proj"}
    assert value(Calculation.LORA_PARAMETERS, **arguments) == 32 * 2 * 8 * (4096 + 4096)
    assert value(Calculation.LORA_FILE, **arguments, bits=32) == 4 * 4_194_304


def test_adapters_on_all_layers_are_as_many_as_peft_makes() -> None:
    # What peft's print_trainable_parameters says of Llama-3.1-8B, rank 16, target_modules="all-linear".
    arguments = {"model": "llama-3.1-8b", "rank": 16, "targets": "all-linear"}
    assert value(Calculation.LORA_PARAMETERS, **arguments) == 41_943_040


def test_a_mixture_holds_more_than_a_token_uses() -> None:
    # Mixtral's paper: 47B parameters, 13B active; Qwen3-30B-A3B: 30.5B and 3.3B.
    assert value(Calculation.HELD_TO_ACTIVE, model="mixtral-8x7b") == pytest.approx(46.7 / 12.9, rel=0.01)
    assert value(Calculation.HELD_TO_ACTIVE, model="qwen3-30b-a3b") == pytest.approx(30.5 / 3.3, rel=0.02)


def test_the_working_of_a_product_is_shown() -> None:
    worked = calculate(Calculation.PRODUCT, {"of": [4, 2048, 4096, 32, 2]})
    assert worked == (Worked(value=2_147_483_648, working="4 x 2,048 x 4,096 x 32 x 2 B"),)


def test_lists_are_combined_the_last_one_fastest() -> None:
    models = ["llama-2-7b", "llama-2-13b"]
    found = calculate(Calculation.WEIGHTS, {"model": models, "bits": [16, 8]})
    assert [worked.working for worked in found] == [
        "llama-2-7b: 6,738,415,616 parameters x 16 bits",
        "llama-2-7b: 6,738,415,616 parameters x 8 bits",
        "llama-2-13b: 13,015,864,320 parameters x 16 bits",
        "llama-2-13b: 13,015,864,320 parameters x 8 bits",
    ]


def test_a_context_says_whether_it_was_read_on_that_card() -> None:
    (worked,) = calculate(Calculation.CUDA_CONTEXT, {"gpu": "rtx-4090"})
    assert worked.value > 0
    assert worked.working.startswith("rtx-4090: ")


@pytest.mark.parametrize(
    ("calculator", "arguments", "message"),
    [
        (Calculation.WEIGHTS, {"model": "llama-2-8b", "bits": 16}, "there is no preset 'llama-2-8b'"),
        (Calculation.WEIGHTS, {"bits": 16}, "neither a model nor a count"),
        (Calculation.WEIGHTS, {"model": "llama-2-7b", "bytes": 2}, "weights: bits"),
        (Calculation.KV_CACHE, {"model": "llama-2-7b", "seq_len": "many"}, "kv-cache: seq_len"),
        (Calculation.CUDA_CONTEXT, {"gpu": "rtx-4091"}, "unknown GPU 'rtx-4091'"),
        (
            Calculation.LORA_PARAMETERS,
            {"model": "llama-2-7b", "rank": 8, "targets": "q"},
            "no linear layer 'q'",
        ),
    ],
)
def test_arguments_that_are_none_are_refused(
    calculator: Calculation, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        calculate(calculator, arguments)
