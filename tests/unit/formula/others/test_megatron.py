from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.formula.others.megatron import MEGATRON, activations_bytes, ends_bytes, scores_bytes
from tests.unit.formula.shapes import LLAMA_2_7B, a_model, a_shape, a_tuning, breakdown_of, terms_of

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

# GPT-3 175B of the paper's Table 3: a 96, h 12288, L 96, s 2048, b 1.
GPT_3 = a_model(
    num_hidden_layers=96, hidden_size=12288, intermediate_size=4 * 12288, num_attention_heads=96,
    num_key_value_heads=96, vocab_size=51200,
)  # fmt: skip


def test_the_scores_of_gpt_3_are_80_against_34() -> None:
    """The paper: 5as/h is 80 for GPT-3, so that selective recomputation saves 70 %."""
    linear = activations_bytes(GPT_3, 2048, is_recomputed=False)
    scores = scores_bytes(GPT_3, a_shape(1, 2048))
    assert int(scores) * 34 == int(linear) * 80
    assert round(int(scores) / (int(scores) + int(linear)), 1) == 0.7


def test_the_ends_of_gpt_3_are_small() -> None:
    assert int(ends_bytes(GPT_3, 2048)) == 2048 * 12288 + 4 * 2048 * 12288 + 4 * 2048 * 51200


def test_states_take_18_bytes_a_parameter() -> None:
    terms = terms_of(MEGATRON, a_tuning("full"))
    states = sum(int(str(terms[name])) for name in ("weights", "gradients", "optimizer"))
    assert states == 18 * LLAMA_2_7B.num_parameters


@pytest.mark.parametrize(
    ("changes", "per_element", "has_scores"),
    [
        ({"gradient_checkpointing": True, "attention": "eager"}, 2, False),
        ({"gradient_checkpointing": False, "attention": "eager"}, 34, True),
        ({"gradient_checkpointing": False, "attention": "sdpa"}, 34, False),
    ],
)
def test_recomputation_decides_what_is_stored(
    changes: dict[str, object], per_element: int, has_scores: bool
) -> None:
    job = a_tuning("full", batch_size=2, seq_len=512, **changes)
    terms = terms_of(MEGATRON, job)
    assert terms["activations"] == per_element * 2 * 512 * 4096 * 32
    assert ("scores" in terms) is has_scores


def test_scores_grow_with_the_square_of_the_length() -> None:
    short, long = (scores_bytes(LLAMA_2_7B, a_shape(1, length)) for length in (1024, 2048))
    assert long == 4 * short


@pytest.mark.parametrize(
    "job", [a_tuning("lora"), a_tuning("full", precision="fp32"), a_tuning("full", optimizer="sgd")]
)
def test_it_speaks_of_full_16_bit_training_with_adam(job: JobSpec) -> None:
    assert MEGATRON.refusal(job, LLAMA_2_7B) is not None


def test_autocast_is_what_it_means() -> None:
    assert breakdown_of(MEGATRON, a_tuning("full", precision="bf16-amp")).peak_bytes
