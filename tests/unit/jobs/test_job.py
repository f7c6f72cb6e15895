from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from profiler.jobs.choices import (
    Attention,
    AttentionMask,
    ComputeDtype,
    InferenceQuant,
    Loop,
    Optimizer,
    Precision,
    Quant,
    Weights,
)
from profiler.jobs.job import Full, GradientCheckpointing, Inference, Int8Lora, JobSpec, Lora, QLora
from tests.builders import a_job

names = st.from_regex(r"[a-z][a-z0-9_.]{0,12}", fullmatch=True).filter(lambda name: name != "all-linear")
lora_fields: dict[str, st.SearchStrategy[Any]] = {
    "rank": st.integers(1, 4096),
    "alpha": st.integers(1, 4096),
    "dropout": st.floats(0, 1, exclude_max=True),
    "targets": st.just("all-linear") | st.lists(names, min_size=1, max_size=4).map(tuple),
    "use_dora": st.booleans(),
    "use_rslora": st.booleans(),
}
methods = (
    st.just(Full())
    | st.builds(Lora, **lora_fields)
    | st.builds(
        QLora,
        quant=st.sampled_from(Quant),
        double_quant=st.booleans(),
        compute_dtype=st.sampled_from(ComputeDtype),
        kbit_prepare=st.booleans(),
        **lora_fields,
    )
    | st.builds(Int8Lora, kbit_prepare=st.booleans(), **lora_fields)
)
inferences = st.builds(
    Inference,
    quant=st.sampled_from([InferenceQuant.NF4, InferenceQuant.FP4]),
    double_quant=st.booleans(),
    compute_dtype=st.sampled_from(ComputeDtype),
    new_tokens=st.integers(1, 2**24),
) | st.builds(Inference, quant=st.sampled_from(InferenceQuant))
jobs = st.builds(
    JobSpec,
    model=st.just("llama-3.1-8b"),
    method=inferences,
    precision=st.sampled_from(Precision),
    batch_size=st.integers(1, 65_536),
    attention=st.sampled_from(Attention),
    attention_mask=st.sampled_from([AttentionMask.FULL, AttentionMask.PADDED]),
) | st.builds(
    JobSpec,
    model=st.sampled_from(["llama-3.1-8b", "org/model", "./models/mine"]),
    revision=st.none() | st.just("main"),
    weights=st.sampled_from(Weights),
    method=methods,
    precision=st.sampled_from([one for one in Precision if one is not Precision.FP16_AUTOCAST]),
    optimizer=st.sampled_from(Optimizer),
    batch_size=st.integers(1, 65_536),
    seq_len=st.integers(2, 16_777_216),
    gradient_checkpointing=st.sampled_from(
        [GradientCheckpointing(), GradientCheckpointing(enabled=False), GradientCheckpointing(reentrant=True)]
    ),
    attention=st.sampled_from(Attention),
    attention_mask=st.sampled_from(AttentionMask),
    loop=st.sampled_from(Loop),
    steps=st.integers(1, 1000),
    alloc_conf=st.sampled_from(["", "expandable_segments:True", "roundup_power2_divisions:[256:1,>:8],a:b"]),
    gpu=st.sampled_from(["auto", "rtx-4090"]),
    gpu_memory_bytes=st.none() | st.integers(1, 2**46),
)


@given(jobs)
def test_a_job_survives_json(job: JobSpec) -> None:
    assert JobSpec.model_validate_json(job.model_dump_json()) == job
    assert JobSpec.model_validate(json.loads(job.model_dump_json())) == job


@given(jobs)
def test_a_job_is_a_value(job: JobSpec) -> None:
    assert hash(job) == hash(job.model_copy(deep=True))
    with pytest.raises(ValidationError):
        job.batch_size = 3  # type: ignore[misc]


def test_a_method_may_be_its_name() -> None:
    assert a_job(method="lora").method == Lora()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (True, GradientCheckpointing()),
        (False, GradientCheckpointing(enabled=False)),
        ({"reentrant": True}, GradientCheckpointing(enabled=True, reentrant=True)),
    ],
)
def test_gradient_checkpointing_may_be_a_truth_value_or_its_keys(written: object, meant: object) -> None:
    assert a_job(gradient_checkpointing=written).gradient_checkpointing == meant


@pytest.mark.parametrize("written", ["v_proj, q_proj", ["q_proj", "v_proj"], ["v_proj", "q_proj", "q_proj"]])
def test_targets_are_a_set_however_they_are_written(written: object) -> None:
    assert a_job(method={"kind": "lora", "targets": written}).method == Lora(targets=("q_proj", "v_proj"))


def test_the_name_for_all_linear_modules_stands_alone() -> None:
    assert Lora(targets=["all-linear"]).targets == "all-linear"
    with pytest.raises(ValidationError, match="stands alone"):
        Lora(targets="all-linear,q_proj")


def test_a_capacity_may_be_written_as_a_size() -> None:
    assert a_job(gpu_memory_bytes="2TiB").gpu_memory_bytes == 2 * 2**40


def test_allocator_settings_are_kept_without_spaces() -> None:
    assert a_job(alloc_conf="a:1, b : [x:1, >:2]").alloc_conf == "a:1,b:[x:1,>:2]"


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 0},
        {"batch_size": 65_537},
        {"batch_size": True},
        {"batch_size": "2"},
        {"seq_len": 16_777_217},
        {"steps": 1001},
        {"model": ""},
        {"gpu": ""},
        {"gpu": "real:"},
        {"gpu": "real:-1"},
        {"gpu_memory_bytes": 0},
        {"gpu_memory_bytes": 2**47},
        {"gpu": "real:0", "gpu_memory_bytes": 2**30},
        {"seq_len": 1, "attention_mask": "padded"},
        {"gradient_checkpointing": {"enabled": False, "reentrant": True}},
        {"alloc_conf": "expandable_segments"},
        {"method": {"kind": "lora", "rank": 0}},
        {"method": {"kind": "lora", "dropout": float("nan")}},
        {"method": {"kind": "lora", "targets": []}},
        {"method": {"kind": "full", "rank": 4}},
        {"method": {"kind": "full", "use_dora": True}},
        {"method": {"kind": "lora", "use_dora": "yes"}},
        {"method": "full", "precision": "fp16-autocast"},
        {"accumulation": 0},
        {"neftune_alpha": -1},
        {"foreach": False, "optimizer": "adamw_torch_fused"},
        {"method": {"kind": "lora", "autocast_adapter_dtype": False}, "precision": "bf16-amp"},
        {"method": {"kind": "lora", "autocast_adapter_dtype": False}, "precision": "fp16-autocast"},
        {"method": {"kind": "qlora", "autocast_adapter_dtype": False}, "precision": "fp16-amp"},
        {"method": {"kind": "lora", "modules_to_save": ["lm_head", ""]}},
        {"method": {"kind": "inference", "new_tokens": 0}},
        {"method": {"kind": "inference", "rank": 4}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_job(**changes)


def test_modules_to_save_have_no_order() -> None:
    given = ["lm_head, embed_tokens", ["embed_tokens", "lm_head"], ("lm_head", "embed_tokens", "lm_head")]
    jobs = [a_job(method={"kind": "lora", "modules_to_save": names}) for names in given]
    assert jobs[0] == jobs[1] == jobs[2]


@pytest.mark.parametrize("method", ["qlora", "int8-lora"])
def test_quantized_methods_may_run_under_autocast(method: str) -> None:
    assert a_job(method=method, precision="fp16-amp").precision is Precision.FP16_AMP


@pytest.mark.parametrize("method", ["lora", "qlora", "int8-lora"])
def test_adapters_of_float16_weights_may_train_under_autocast(method: str) -> None:
    assert a_job(method=method, precision="fp16-autocast").precision is Precision.FP16_AUTOCAST


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "sgd"}, "optimizer does not apply to method 'inference', which trains nothing"),
        ({"steps": 2}, "steps does not apply"),
        ({"loop": "trainer"}, "loop does not apply"),
        ({"accumulation": 2}, "accumulation does not apply"),
        ({"loss": "chunked"}, "loss does not apply"),
        ({"foreach": False, "optimizer": "adamw_torch"}, "foreach does not apply"),
        ({"neftune_alpha": 5}, "neftune_alpha does not apply"),
        ({"gradient_checkpointing": False}, "gradient_checkpointing does not apply"),
        ({"attention_mask": "none"}, "attention_mask none does not apply"),
        ({"method": {"kind": "inference", "double_quant": False}}, "double_quant is for 4-bit weights"),
        (
            {"method": {"kind": "inference", "quant": "int8", "compute_dtype": "float16"}},
            "compute_dtype is for 4-bit weights, not for quant 'int8'",
        ),
    ],
    ids=str,
)
def test_what_changes_nothing_of_inference_is_refused_so_that_a_job_has_one_key(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        a_job(**({"method": "inference"} | changes))


def test_defaults_of_what_does_not_apply_may_be_written_out() -> None:
    spelled = a_job(method="inference", optimizer="adamw_torch", gradient_checkpointing=True, steps=3)
    assert spelled == a_job(method={"kind": "inference", "quant": "none", "new_tokens": 32})


@pytest.mark.parametrize(
    ("gpu", "is_real"), [("real", True), ("real:3", True), ("auto", False), ("a40", False)]
)
def test_a_real_card_is_told_from_others_by_its_name(gpu: str, *, is_real: bool) -> None:
    assert a_job(gpu=gpu).is_real_gpu_asked is is_real


@pytest.mark.parametrize(
    ("key", "value", "task"),
    [
        ("num_labels", 3, "sequence-classification"),
        ("target_len", 64, "seq2seq-lm"),
        ("images", 2, "image-text-to-text"),
        ("image_size", 224, "image-text-to-text"),
    ],
)
def test_a_key_of_one_task_alone_says_the_task(key: str, value: int, task: str) -> None:
    job = JobSpec.model_validate({"model": "x", "method": "full", key: value})
    assert (job.task, "task" in job.model_fields_set) == (task, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "causal-lm", "num_labels": 3}, "num_labels does not apply to task 'causal-lm'"),
        ({"task": "seq2seq-lm", "images": 2}, "images does not apply to task 'seq2seq-lm'"),
        ({"task": "token-classification", "method": "inference"}, "generates with a causal language model"),
        (
            {"task": "sequence-classification", "attention_mask": "packed"},
            "attention_mask 'packed' is for causal language models",
        ),
        ({"task": "seq2seq-lm", "loss": "chunked"}, "loss 'chunked' is for causal language models"),
    ],
)
def test_a_key_of_another_task_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobSpec.model_validate({"model": "x", "method": "full", **changes})


@pytest.mark.parametrize(
    "own", [{"eval_batch_size": 4}, {"eval_accumulation_steps": 1}, {"prediction_loss_only": True}], ids=str
)
def test_a_key_of_an_evaluation_needs_one(own: dict[str, Any]) -> None:
    assert a_job(eval_batches=1, **own).eval_batches == 1
    with pytest.raises(ValidationError, match="is for evaluation, and eval_batches is 0"):
        a_job(**own)


@pytest.mark.parametrize("own", [{"eval_batches": 1}, {"save": True}], ids=str)
def test_inference_neither_evaluates_nor_saves(own: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="does not apply to method 'inference'"):
        a_job(method="inference", **own)
