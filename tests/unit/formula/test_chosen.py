from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from profiler.formula.chosen import attention_note, choose_attention, choose_task, choose_unnamed
from profiler.jobs.choices import Attention, Task
from profiler.jobs.identity import job_key
from profiler.jobs.job import JobSpec
from tests.builders import a_job
from tests.versions import needs

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_SDPA = [
    pytest.param("gemma-2-2b", marks=needs(transformers="5.22")),
    pytest.param("gpt-oss-20b", marks=needs(transformers="4.55")),
    pytest.param("gemma-4-e2b", marks=needs(transformers="5.22")),  # its audio encoder lacks it
]


def a_plain_job(model: str) -> JobSpec:
    """As a command line that names a model and a card alone."""
    return JobSpec(model=model, gpu="rtx-4090")


@pytest.mark.parametrize("model", WITHOUT_SDPA)
def test_a_model_without_the_default_attention_takes_what_it_has_and_says_why(model: str) -> None:
    job, reason = choose_attention(a_plain_job(model))
    assert job.attention is Attention.EAGER
    assert reason == (
        f"attention is eager: {model} has no sdpa attention in transformers {version('transformers')}"
    )
    assert attention_note(job) == reason


@pytest.mark.parametrize("model", WITHOUT_SDPA)
def test_a_job_is_the_same_whether_its_attention_was_chosen_or_named(model: str) -> None:
    chosen, _ = choose_attention(a_plain_job(model))
    named = JobSpec(model=model, gpu="rtx-4090", attention=Attention.EAGER)
    assert job_key(chosen) == job_key(named)


@pytest.mark.parametrize("attention", list(Attention))
def test_an_attention_that_was_named_stays(attention: Attention) -> None:
    job = JobSpec(model="gemma-2-2b", attention=attention)
    assert choose_attention(job) == (job, "")


@pytest.mark.parametrize(
    "model", ["llama-3.1-8b", "qwen3.5-0.8b", "gemma-3-4b", "gemma-4-31b", "no-such-model", "some/model"]
)
def test_a_job_whose_model_has_it_or_is_not_known_stays_as_it_is(model: str) -> None:
    job = a_plain_job(model)
    assert choose_attention(job) == (job, "")
    assert not attention_note(job)


def test_another_attention_of_a_model_that_has_the_default_one_needs_no_note() -> None:
    assert not attention_note(a_job(attention="eager"))


def test_a_model_is_trained_for_what_it_is_for_and_says_what_else_there_is() -> None:
    job, reasons = choose_unnamed(JobSpec(model="bert-base-uncased", gpu="rtx-4090"))
    assert (job.task, job.seq_len) == (Task.SEQUENCE_CLASSIFICATION, 512)
    assert reasons == (
        "task is sequence-classification: that is what bert-base-uncased is for; "
        "--task takes causal-lm or token-classification too",
        "seq_len is 512: bert-base-uncased has positions for 512 tokens",
    )


def test_the_only_task_of_a_model_is_taken() -> None:
    job, reason = choose_task(a_plain_job("qwen3-vl-2b"))
    assert job.task is Task.IMAGE_TEXT_TO_TEXT
    assert reason == "task is image-text-to-text: that is all that qwen3-vl-2b is for"


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt2", "gemma-3-4b", "no-such-model", "some/model"])
def test_a_causal_language_model_and_one_that_is_not_known_keep_their_task(model: str) -> None:
    job = a_plain_job(model)
    assert choose_task(job) == (job, "")


def test_a_job_is_the_same_whether_its_task_and_length_were_chosen_or_named() -> None:
    chosen, _ = choose_unnamed(JobSpec(model="t5-base", gpu="rtx-4090"))
    named = JobSpec(model="t5-base", gpu="rtx-4090", task=Task.SEQ2SEQ_LM)
    assert job_key(chosen) == job_key(named)


def test_what_was_named_stays() -> None:
    job = JobSpec(model="bert-base-uncased", task=Task.CAUSAL_LM, seq_len=2048)
    assert choose_unnamed(job) == (job, ())


def test_a_classifier_has_the_labels_of_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bert", "id2label": {"0": "a", "1": "b", "2": "c"}})
    )
    job, _ = choose_task(JobSpec(model=str(tmp_path), method="full"))
    assert job.num_labels == 3
    named, _ = choose_task(JobSpec(model=str(tmp_path), method="full", num_labels=5))
    assert named.num_labels == 5
