from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.accelerate_estimate import (
    ACCELERATE_TOTAL_SIZE,
    ACCELERATE_TRAINING,
    total_size_bytes,
)
from tests.builders import a_job
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, breakdown_of, terms_of

# calculate_maximum_sizes() of accelerate 1.15 on AutoModel.from_config(...) of transformers 5.23, float32
TOTAL_SIZES = {
    "llama-2-7b": 26_429_374_976,
    "llama-3.1-8b": 30_019_699_200,
    "gemma-2-2b": 10_457_368_580,
    "phi-2": 10_594_242_688,
    "gpt2": 497_759_232,
    "mixtral-8x7b": 186_286_883_328,
    "qwen3-30b-a3b": 120_883_831_296,
    "qwen3.5-0.8b": 3_009_572_352,
    "qwen2.5-0.5b": 1_976_131_328,
}


@pytest.mark.parametrize(("model", "size"), TOTAL_SIZES.items())
def test_the_total_size_is_accelerates_but_for_the_rotary_tables(model: str, size: int) -> None:
    assert 0 <= size - total_size_bytes(architecture_of(model), bits=32) < 2048


@pytest.mark.parametrize(
    ("method", "divisor"),
    [({"kind": "lora"}, 2), ({"kind": "int8-lora"}, 4), ({"kind": "qlora"}, 8), ({"kind": "inference"}, 2)],
)
def test_the_total_size_follows_the_type(method: dict[str, str], divisor: int) -> None:
    size = total_size_bytes(LLAMA_2_7B, bits=32)
    assert terms_of(ACCELERATE_TOTAL_SIZE, a_job(method=method)) == {"weights": size // divisor}


@pytest.mark.parametrize(
    ("precision", "times", "moment"),
    [("fp32", 4, "step"), ("bf16", 2, "optimizer"), ("fp16-amp", 2, "optimizer")],
)
def test_training_is_the_largest_of_its_moments(precision: str, times: int, moment: str) -> None:
    """estimate_training_usage: 4 times the float32 size in float32, twice in 16 bits."""
    breakdown = breakdown_of(ACCELERATE_TRAINING, a_tuning("full", precision=precision))
    assert breakdown.peak_bytes == times * total_size_bytes(LLAMA_2_7B, bits=32)
    assert breakdown.peak.name == moment
