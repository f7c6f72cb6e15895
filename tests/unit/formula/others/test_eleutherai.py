from __future__ import annotations

import pytest

from profiler.formula.others.eleutherai import ELEUTHERAI_INFERENCE, ELEUTHERAI_TRAINING
from profiler.formula.others.megatron import MEGATRON
from tests.builders import a_job
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, terms_of

P = LLAMA_2_7B.num_parameters


@pytest.mark.parametrize(
    ("precision", "optimizer", "bytes_each"),
    [
        ("bf16", "adamw_torch", (2, 2, 12)),
        ("bf16-amp", "adamw_torch", (2, 2, 12)),
        ("fp32", "adamw_torch", (4, 4, 12)),
        ("bf16", "adamw_bnb_8bit", (2, 2, 6)),
        ("bf16", "sgd", (2, 2, 8)),
    ],
)
def test_states_take_the_bytes_of_the_post(
    precision: str, optimizer: str, bytes_each: tuple[int, int, int]
) -> None:
    terms = terms_of(ELEUTHERAI_TRAINING, a_tuning("full", precision=precision, optimizer=optimizer))
    found = (terms["weights"], terms["gradients"], terms["optimizer"])
    assert found == tuple(P * size for size in bytes_each)


def test_activations_are_the_ones_of_the_paper_it_cites() -> None:
    job = a_tuning("full", attention="eager", gradient_checkpointing=False)
    post, paper = terms_of(ELEUTHERAI_TRAINING, job), terms_of(MEGATRON, job)
    assert (post["activations"], post["scores"]) == (paper["activations"], paper["scores"])


def test_adafactor_has_no_figure() -> None:
    refusal = ELEUTHERAI_TRAINING.refusal(a_tuning("full", optimizer="adafactor"), LLAMA_2_7B)
    assert refusal == "it gives no figure for the optimizer adafactor"


def test_inference_takes_a_fifth_more_than_the_model() -> None:
    job = a_job(method={"kind": "inference", "quant": "int8"})
    assert terms_of(ELEUTHERAI_INFERENCE, job) == {"weights": P, "overhead": P // 5}
