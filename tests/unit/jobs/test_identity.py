from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.jobs.identity import ADDED_LATER, job_key
from profiler.jobs.job import Int8Lora, JobSpec, Lora, QLora
from profiler.jobs.keys import flatten
from profiler.records.store import RecordStore
from tests.builders import ROOT, a_job

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = ROOT / "results"


def test_a_key_does_not_change_between_releases() -> None:
    """Records written by an earlier version are found by it: change the schema tag when this must change."""
    assert job_key(a_job()) == "1695af25ead215a1"


@pytest.mark.parametrize("study", ["rtx-4090", "a100-80gb"])
def test_every_published_record_is_found_by_its_key(study: str) -> None:
    stored = RecordStore(RESULTS / study).scan().records
    assert len(stored) > 1000
    assert [found.path for found in stored if job_key(found.record.spec) != found.record.key] == []


@pytest.mark.parametrize("method", [Lora(), QLora(), Int8Lora()], ids=lambda method: method.kind)
@pytest.mark.parametrize("key", ADDED_LATER)
def test_a_field_added_later_has_as_its_default_what_was_done_before(
    key: str, method: Lora | QLora | Int8Lora
) -> None:
    fields = flatten(JobSpec(model="x", method=method).model_dump(mode="json"))
    assert fields.get(key, ADDED_LATER[key]) == ADDED_LATER[key]


def test_every_field_added_later_is_a_field_of_some_job() -> None:
    jobs = [JobSpec(model="x", method=method) for method in (Lora(), QLora(), Int8Lora())]
    assert set(ADDED_LATER) <= {key for job in jobs for key in flatten(job.model_dump(mode="json"))}


@pytest.mark.parametrize(
    "method",
    [
        {"new_tokens": 33},
        {"quant": "int8"},
        {"quant": "nf4"},
        {"quant": "fp4"},
        {"quant": "nf4", "double_quant": False},
        {"quant": "nf4", "compute_dtype": "float16"},
    ],
    ids=str,
)
def test_every_field_of_inference_counts(method: Mapping[str, object]) -> None:
    keys = {job_key(a_job(method={"kind": "inference", **own})) for own in ({}, {"quant": "nf4"}, method)}
    assert len(keys) == 2 + (method != {"quant": "nf4"})


def test_a_key_is_sixteen_hex_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", job_key(a_job()))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "llama-3.1-70b"},
        {"revision": "main"},
        {"weights": "pretrained"},
        {"method": "lora"},
        {"method": {"kind": "qlora", "rank": 8}},
        {"method": {"kind": "qlora", "use_dora": True}},
        {"method": {"kind": "qlora", "use_rslora": True}},
        {"method": "inference"},
        {"accumulation": 2},
        {"foreach": False},
        {"neftune_alpha": 5.0},
        {"loss": "chunked"},
        {"method": {"kind": "qlora", "modules_to_save": "lm_head"}},
        {"method": {"kind": "qlora", "autocast_adapter_dtype": False}},
        {"precision": "bf16-autocast"},
        {"precision": "fp16"},
        {"optimizer": "sgd"},
        {"batch_size": 2},
        {"seq_len": 1024},
        {"gradient_checkpointing": False},
        {"gradient_checkpointing": {"reentrant": True}},
        {"attention": "eager"},
        {"attention_mask": "none"},
        {"loop": "trainer"},
        {"steps": 4},
        {"eval_batches": 1},
        {"save": True},
        {"alloc_conf": "expandable_segments:True"},
        {"gpu": "a40"},
        {"gpu_memory_bytes": 2**40},
        *({"task": task} for task in ("sequence-classification", "token-classification", "seq2seq-lm")),
    ],
    ids=str,
)
def test_every_field_counts(changes: dict[str, Any]) -> None:
    assert job_key(a_job(**changes)) != job_key(a_job())


@pytest.mark.parametrize(
    "own", [{"eval_batch_size": 4}, {"eval_accumulation_steps": 1}, {"prediction_loss_only": True}], ids=str
)
def test_every_field_of_an_evaluation_counts(own: dict[str, Any]) -> None:
    assert job_key(a_job(eval_batches=2, **own)) != job_key(a_job(eval_batches=2))


def test_a_written_out_default_does_not_count() -> None:
    spelled = {"kind": "qlora", "rank": 16, "targets": ["all-linear"]}
    assert job_key(a_job(method=spelled, seq_len=2048, gradient_checkpointing=True)) == job_key(a_job())


def test_the_order_of_targets_does_not_count() -> None:
    one, other = ({"kind": "lora", "targets": targets} for targets in ("k,q,v", ["v", "q", "k"]))
    assert job_key(a_job(method=one)) == job_key(a_job(method=other))


@given(st.integers(0, 63))
def test_the_index_of_a_real_card_does_not_count(index: int) -> None:
    assert job_key(a_job(gpu=f"real:{index}")) == job_key(a_job(gpu="real"))


def test_a_job_whose_card_is_not_chosen_has_no_key() -> None:
    with pytest.raises(AssertionError, match="GPU is chosen"):
        job_key(a_job(gpu="auto"))


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("sequence-classification", {"num_labels": 3}),
        ("token-classification", {"num_labels": 3}),
        ("seq2seq-lm", {"target_len": 64}),
        ("image-text-to-text", {"images": 2}),
        ("image-text-to-text", {"image_size": 224}),
    ],
)
def test_every_field_of_a_task_counts(task: str, changes: dict[str, Any]) -> None:
    assert job_key(a_job(task=task, **changes)) != job_key(a_job(task=task))


def test_a_decoder_with_rows_as_long_as_the_encoders_is_one_job_whether_it_is_said_or_not() -> None:
    said, unsaid = (
        a_job(task="seq2seq-lm", target_len=512, seq_len=512),
        a_job(task="seq2seq-lm", seq_len=512),
    )
    assert job_key(said) == job_key(unsaid)
