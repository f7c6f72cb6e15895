from __future__ import annotations

import pytest

from profiler.formula.own.scheme import scheme_of
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning


@pytest.mark.parametrize(
    ("precision", "weights", "matmul", "autocast"),
    [
        ("fp32", 4, 4, False),
        ("bf16", 2, 2, False),
        ("bf16-amp", 4, 2, True),
        ("fp16-autocast", 2, 2, True),
    ],
)
def test_precision_decides_what_is_stored_and_what_is_multiplied(
    precision: str, weights: int, matmul: int, autocast: bool
) -> None:
    scheme = scheme_of(a_tuning("lora", precision=precision))
    assert (scheme.weights, scheme.matmul, scheme.autocast) == (weights, matmul, autocast)


def test_k_bit_preparation_makes_the_residual_stream_float32() -> None:
    prepared, bare = (scheme_of(a_tuning("qlora", method_kbit_prepare=is_on)) for is_on in (True, False))
    assert (prepared.stream, prepared.others, prepared.matmul) == (4, 4, 2)
    assert (bare.stream, bare.others, bare.matmul) == (2, 2, 2)


def test_targets_name_the_layers_that_have_adapters() -> None:
    scheme = scheme_of(a_tuning("lora", method_targets="q_proj,v_proj"))
    adapted = [linear.name for linear in LLAMA_2_7B.linears if scheme.is_adapted(linear)]
    assert adapted == ["q_proj", "v_proj"]


def test_all_linear_adapts_every_layer_of_a_block_and_full_training_none() -> None:
    lora, full = scheme_of(a_tuning("lora")), scheme_of(a_tuning("full"))
    assert all(lora.is_adapted(linear) for linear in LLAMA_2_7B.linears)
    assert not any(full.is_adapted(linear) for linear in LLAMA_2_7B.linears)
    assert (full.rank, full.trains_weights, lora.trains_weights) == (0, True, False)
