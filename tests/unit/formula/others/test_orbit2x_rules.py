from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.orbit2x_rules import (
    ORBIT2X_RULE_INFERENCE,
    ORBIT2X_RULE_TRAINING,
    ORBIT2X_TABLE,
    inference_bytes,
    training_bytes,
)
from tests.builders import a_job
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, gigabytes, terms_of

P = 7_000_000_000


@pytest.mark.parametrize(("bits", "gb"), [(16, 14), (8, 7), (4, 3.5)])
def test_inference_takes_the_gigabytes_of_the_quick_table(bits: int, gb: float) -> None:
    assert inference_bytes(P, bits=bits) == gb * 10**9


@pytest.mark.parametrize(("method", "gb"), [("full", 56), ("lora", 21)])
def test_training_takes_the_rule_a_billion(method: str, gb: int) -> None:
    assert training_bytes(P, method=method) == gb * 10**9


def test_cache_and_overhead_are_added() -> None:
    terms = terms_of(ORBIT2X_RULE_TRAINING, a_tuning("lora", batch_size=2, seq_len=2048))
    rule = 3 * LLAMA_2_7B.num_parameters
    assert terms == {"rule": rule, "kv_cache": 2 * 10**9, "overhead": (rule + 2 * 10**9) // 5}


def test_inference_counts_the_generated_tokens_in_the_context() -> None:
    job = a_job(method={"kind": "inference", "new_tokens": 1024}, seq_len=1024)
    assert terms_of(ORBIT2X_RULE_INFERENCE, job)["kv_cache"] == 10**9


def test_float32_inference_has_no_rule() -> None:
    job = a_job(method={"kind": "inference"}, precision="fp32")
    assert "float32" in (ORBIT2X_RULE_INFERENCE.refusal(job, LLAMA_2_7B) or "")


@pytest.mark.parametrize(
    ("method", "model", "gb"),
    [
        ("lora", "tinyllama-1.1b", 4),
        ("lora", "mistral-7b-v0.3", 20),
        ("lora", "llama-2-13b", 40),
        ("lora", "llama-3.1-70b", 200),
        ("full", "llama-2-7b", 120),
        ("full", "llama-2-70b", 560),
        ("qlora", "llama-2-7b", 9),
    ],
)
def test_the_table_gives_its_own_figures(method: str, model: str, gb: int) -> None:
    assert gigabytes(ORBIT2X_TABLE, a_tuning(method), architecture_of(model)) == gb


def test_the_table_refuses_a_size_it_has_not() -> None:
    refusal = ORBIT2X_TABLE.refusal(a_tuning("qlora"), architecture_of("llama-2-13b"))
    assert refusal == "its table has qlora of 7B, not of 13.0B"
