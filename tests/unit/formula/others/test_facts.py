from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.facts import first_of, is_near, num_adapter_parameters, only, weight_bits
from profiler.jobs.choices import AttentionMask
from profiler.jobs.job import Lora
from tests.builders import a_job
from tests.unit.formula.shapes import a_model, a_tuning


@pytest.mark.parametrize(
    ("method", "precision", "bits"),
    [
        ({"kind": "full"}, "bf16", 16),
        ({"kind": "full"}, "bf16-amp", 32),
        ({"kind": "full"}, "bf16-autocast", 16),
        ({"kind": "lora"}, "fp32", 32),
        ({"kind": "qlora"}, "fp32", 4),
        ({"kind": "int8-lora"}, "bf16", 8),
        ({"kind": "inference"}, "bf16", 16),
        ({"kind": "inference", "quant": "int8"}, "bf16", 8),
        ({"kind": "inference", "quant": "fp4"}, "bf16", 4),
    ],
)
def test_weights_have_the_bits_of_method_and_precision(
    method: dict[str, object], precision: str, bits: int
) -> None:
    assert weight_bits(a_job(method=method, precision=precision)) == bits


def test_adapters_of_all_linear_are_those_peft_reports() -> None:
    # print_trainable_parameters() of peft 0.21 for Llama-3.1-8B, r 16, all-linear
    assert num_adapter_parameters(architecture_of("llama-3.1-8b"), Lora(rank=16)) == 41_943_040


def test_adapters_of_q_and_v_are_the_ones_of_the_guide() -> None:
    """4.2 M for rank 8 on the 7B model, as the Orbit2x guide's table has it."""
    method = Lora(rank=8, targets=("q_proj", "v_proj"))
    assert num_adapter_parameters(architecture_of("llama-2-7b"), method) == 4_194_304


def test_a_target_may_be_the_end_of_a_path() -> None:
    model = a_model()
    short, long = Lora(targets=("q_proj",)), Lora(targets=("self_attn.q_proj",))
    assert num_adapter_parameters(model, short) == num_adapter_parameters(model, long) > 0


def test_the_output_matrix_is_adapted_only_where_it_is_named() -> None:
    model = a_model()
    named = num_adapter_parameters(model, Lora(rank=2, targets=("lm_head",)))
    assert named == 2 * (64 + 1000)


def test_dora_adds_a_magnitude_for_every_output() -> None:
    model, targets = a_model(), ("q_proj",)
    plain = num_adapter_parameters(model, Lora(rank=2, targets=targets))
    dora = num_adapter_parameters(model, Lora(rank=2, targets=targets, use_dora=True))
    assert dora - plain == 4 * 64


def test_blocks_of_every_kind_are_adapted() -> None:
    qwen = architecture_of("qwen3.5-0.8b")
    assert num_adapter_parameters(qwen, Lora(rank=1, targets=("in_proj_z",))) == 18 * (1024 + 2048)


@pytest.mark.parametrize(
    ("model", "billions", "near"),
    [
        ("llama-2-7b", 7, True),
        ("qwen2.5-7b", 7, True),
        ("llama-3.1-8b", 7, False),
        ("llama-2-13b", 13, True),
        ("qwen2.5-14b", 13, False),
        ("tinyllama-1.1b", 1, True),
        ("llama-3.2-1b", 1, False),
        ("llama-3.1-70b", 70, True),
    ],
)
def test_a_class_of_size_holds_what_people_call_so(model: str, billions: int, near: bool) -> None:
    assert is_near(architecture_of(model), billions) is near


def test_what_no_publication_speaks_of_is_refused() -> None:
    job = a_tuning("full").model_copy(update={"accumulation": 4})
    assert only("full")(job, a_model()) == "it says nothing of accumulation 4"
    packed = a_tuning("full").model_copy(update={"attention_mask": AttentionMask.PACKED})
    assert only("full")(packed, a_model()) == "it says nothing of packed rows"


def test_the_first_reason_to_refuse_is_given() -> None:
    refuse = first_of(only("full", "lora"), lambda *_: "never")
    assert refuse(a_tuning("qlora"), a_model()) == "it speaks of full and lora, not of qlora"
    assert refuse(a_tuning("full"), a_model()) == "never"
