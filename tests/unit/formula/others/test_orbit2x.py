"""The guide's worked examples: Llama 7B, P = 7e9, L = 32, h = 4096, 2048 tokens; GB as it rounds them."""

from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.orbit2x import (
    ORBIT2X_FULL,
    ORBIT2X_INFERENCE,
    ORBIT2X_LORA,
    ORBIT2X_QLORA,
    activations_bytes,
    gradients_bytes,
    kv_cache_bytes,
    num_lora_parameters,
    optimizer_bytes,
    weights_bytes,
)
from profiler.jobs.choices import Optimizer
from tests.builders import a_job
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, gigabytes, terms_of

P = 7_000_000_000


def test_inference_terms_are_the_ones_worked_out() -> None:
    assert weights_bytes(P, bits=16) == 16_800_000_000
    assert kv_cache_bytes(LLAMA_2_7B, 2048, bits=16) == 1_073_741_824  # its own figure, called 1 GB
    assert activations_bytes(LLAMA_2_7B, 2048, bits=16) // 10 == 53_687_091  # its 0.1 GB


def test_inference_adds_up_to_the_total_worked_out() -> None:
    total = 16_800_000_000 + 1_073_741_824 + 53_687_091 + 500_000_000
    assert round(total / 1e9, 1) == 18.4


def test_training_terms_are_the_ones_worked_out() -> None:
    assert weights_bytes(P, bits=32) == 33_600_000_000
    assert optimizer_bytes(P, Optimizer.ADAMW_TORCH) == 56_000_000_000
    assert gradients_bytes(P) == 14_000_000_000


def test_training_activations_are_a_quarter_of_the_ones_worked_out() -> None:
    activations = activations_bytes(LLAMA_2_7B, 4 * 2048, bits=16)
    assert activations == 2_147_483_648
    assert round(4 * int(activations) / 1e9, 1) == 8.6  # the batch counted twice


def test_the_training_total_is_off_by_that_slip_alone() -> None:
    overhead, cache = 500_000_000, kv_cache_bytes(LLAMA_2_7B, 4 * 2048, bits=16)
    by_formula = 33.6e9 + cache + activations_bytes(LLAMA_2_7B, 4 * 2048, bits=16) + 56e9 + 14e9 + overhead
    assert by_formula / 1e9 == pytest.approx(110.5, abs=0.05)
    assert round(33.6 + 4 + 8.6 + 56 + 14 + 0.5, 1) == 116.7  # the guide's own sum


def test_lora_parameters_are_the_ones_worked_out() -> None:
    assert num_lora_parameters(LLAMA_2_7B, rank=8) == 2_097_152  # "2M params"
    assert num_lora_parameters(LLAMA_2_7B, rank=16) == 4_194_304  # "4M params"


def test_lora_states_are_the_ones_worked_out() -> None:
    assert round(optimizer_bytes(2_000_000, Optimizer.ADAMW_TORCH) / 1e9, 3) == 0.016
    assert round(gradients_bytes(2_000_000) / 1e9, 3) == 0.004


def test_lora_activations_are_a_sixteenth_of_the_ones_worked_out() -> None:
    job = a_tuning("lora", model="llama-2-7b", method_rank=8)
    activations = terms_of(ORBIT2X_LORA, job)["activations"]
    assert activations == 161_061_273
    assert pytest.approx(2.6, abs=0.03) == 16 * 161_061_273 / 1e9  # 0.3 of the 8.6 GB above


def test_lora_of_the_example_by_the_formula() -> None:
    """18.6 GB with P = 7e9; the preset has 6.74e9, at 2.4 bytes each."""
    job = a_tuning("lora", model="llama-2-7b", method_rank=8)
    assert gigabytes(ORBIT2X_LORA, job) + 2.4 * (7 - 6.738415616) == pytest.approx(18.556, abs=1e-3)


def test_batch_4_of_the_second_example_by_the_formula() -> None:
    job = a_tuning("lora", model="llama-2-7b", method_rank=16, batch_size=4)
    assert gigabytes(ORBIT2X_LORA, job) + 2.4 * (7 - 6.738415616) == pytest.approx(22.28, abs=1e-2)


def test_4_bit_inference_agrees_with_the_table() -> None:
    job = a_job(model="llama-2-7b", method={"kind": "inference", "quant": "nf4", "new_tokens": 1})
    assert gigabytes(ORBIT2X_INFERENCE, job) == pytest.approx(5, abs=0.25)  # "7B, INT4, 2K: 5 GB"


def test_the_cache_of_a_70b_model_is_half_of_the_tables() -> None:
    cache = kv_cache_bytes(architecture_of("llama-3.1-70b"), 2048, bits=16)
    assert cache == 5_368_709_120  # the table says 10 GB


def test_checkpointing_keeps_three_tenths_of_the_activations() -> None:
    on, off = (
        terms_of(ORBIT2X_FULL, a_tuning("full", batch_size=4, gradient_checkpointing=checkpointing))
        for checkpointing in (True, False)
    )
    assert off["activations"] == 2_147_483_648
    assert on["activations"] == 644_245_094  # the guide's 2.6 GB is 0.3 of its 8.6


@pytest.mark.parametrize(
    ("optimizer", "gb"),
    [("adamw_torch", 56), ("paged_adamw_32bit", 56), ("adamw_bnb_8bit", 14), ("adafactor", 28), ("sgd", 0)],
)
def test_every_optimizer_has_the_bytes_of_the_guide(optimizer: str, gb: int) -> None:
    assert optimizer_bytes(P, Optimizer(optimizer)) == gb * 10**9


def test_qlora_keeps_half_a_byte_a_weight() -> None:
    lora = terms_of(ORBIT2X_LORA, a_tuning("lora"))
    qlora = terms_of(ORBIT2X_QLORA, a_tuning("qlora"))
    assert qlora == {**lora, "weights": weights_bytes(LLAMA_2_7B.num_parameters, bits=4)}


def test_full_training_keeps_float32_weights_whatever_the_precision() -> None:
    job = a_tuning("full", precision="bf16")
    assert terms_of(ORBIT2X_FULL, job)["weights"] == weights_bytes(LLAMA_2_7B.num_parameters, bits=32)
