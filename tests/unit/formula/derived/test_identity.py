from __future__ import annotations

from typing import Any

import pytest

from profiler.formula.derived.identity import derived_key, job_fields
from profiler.jobs.identity import ADDED_LATER
from tests.builders import a_job

CONFIG = {"model_type": "llama", "hidden_size": 64, "_name_or_path": "x", "transformers_version": "5.0"}


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 7},
        {"seq_len": 77},
        {"steps": 9},
        {"gpu": "a100-80gb"},
        {"gpu_memory_bytes": 1 << 40},
        {"alloc_conf": "expandable_segments:True"},
        {"model": "mistral-7b-v0.1"},  # its name alone: the config is told besides
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_formula_is_of_any_batch_card_and_setting(changes: dict[str, Any]) -> None:
    assert derived_key(a_job(**changes), CONFIG) == derived_key(a_job(), CONFIG)
    assert not set(changes) & set(job_fields(a_job()))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": {"kind": "lora", "rank": 8}},
        {"accumulation": 2},
        {"method": "full"},
        {"optimizer": "sgd"},
        {"gradient_checkpointing": False},
        {"precision": "fp16"},
        {"attention": "eager"},
        {"weights": "pretrained"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_formula_is_of_one_job(changes: dict[str, Any]) -> None:
    assert derived_key(a_job(**changes), CONFIG) != derived_key(a_job(), CONFIG)


def test_a_formula_of_before_a_field_was_there_is_of_what_jobs_did_then() -> None:
    assert not set(ADDED_LATER) & set(job_fields(a_job()))
    assert derived_key(a_job(save=True), CONFIG) != derived_key(a_job(), CONFIG)


def test_a_formula_is_of_one_config_whatever_that_is_called() -> None:
    key = derived_key(a_job(), CONFIG)
    assert derived_key(a_job(), CONFIG | {"hidden_size": 65}) != key
    assert derived_key(a_job(), CONFIG | {"_name_or_path": "y", "transformers_version": "6.0"}) == key
    assert derived_key(a_job(), dict(reversed(CONFIG.items()))) == key
    assert len(key) == 16
