from __future__ import annotations

from importlib.metadata import version

import pytest

from profiler.formula.chosen import attention_note, choose_attention
from profiler.jobs.choices import Attention
from profiler.jobs.identity import job_key
from profiler.jobs.job import JobSpec
from tests.builders import a_job
from tests.versions import needs

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
