from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.eleutherai_calc import ELEUTHERAI_CALC, num_parameters
from profiler.units import GIB
from tests.builders import a_job
from tests.unit.formula.shapes import LLAMA_2_7B, a_model, a_tuning, terms_of

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

# The calculator's own "example with llama 7B" but for `--vocab-size`, which is left at its default there:
# 32 layers, 4096 tokens, 32 heads, hidden size 4096, expansion 3.5, batch 1.
EXAMPLE = a_model(
    num_hidden_layers=32, hidden_size=4096, intermediate_size=14336, num_attention_heads=32,
    num_key_value_heads=32, vocab_size=51200,
)  # fmt: skip


def test_the_count_is_the_calculators_own() -> None:
    embeddings, positions, norms = 2 * 51200 * 4096, 4096 * 4096, 8 * 4096 * 32 + 2 * 4096
    attention, mlp = 4 * 32 * 4096 * 4096, 2 * 32 * 4096 * 3.5 * 4096
    assert num_parameters(EXAMPLE, 4096) == embeddings + positions + norms + attention + mlp


def test_its_example_takes_what_it_prints() -> None:
    job = a_tuning("full", seq_len=4096, gradient_checkpointing=False)
    terms = terms_of(ELEUTHERAI_CALC, job, EXAMPLE)
    assert {name: round(int(str(value)) / GIB, 2) for name, value in terms.items()} == {
        "weights": 11.81,
        "gradients": 23.63,
        "optimizer": 70.89,
        "activations": 17.0,
        "scores": 80.0,
    }


def test_a_gated_mlp_is_counted_short() -> None:
    assert int(num_parameters(LLAMA_2_7B, 2048)) < 0.8 * LLAMA_2_7B.num_parameters


def test_checkpointing_only_drops_the_scores() -> None:
    on, off = (
        terms_of(ELEUTHERAI_CALC, a_tuning("full", gradient_checkpointing=checkpointing))
        for checkpointing in (True, False)
    )
    assert {name: value for name, value in off.items() if name != "scores"} == on


def test_the_cache_of_inference_has_keys_alone() -> None:
    job = a_job(method={"kind": "inference", "new_tokens": 48}, seq_len=2000)
    terms = terms_of(ELEUTHERAI_CALC, job)
    assert terms["kv_cache"] == 2 * 4096 * 32 * 2048
    assert terms["activations"] == 34 * 2000 * 4096


@pytest.mark.parametrize(
    ("job", "model"),
    [
        (a_tuning("lora"), "llama-2-7b"),
        (a_tuning("full"), "mixtral-8x7b"),
        (a_job(method={"kind": "inference", "quant": "nf4"}), "llama-2-7b"),
    ],
)
def test_what_it_does_not_know_is_refused(job: JobSpec, model: str) -> None:
    assert ELEUTHERAI_CALC.refusal(job, architecture_of(model)) is not None
