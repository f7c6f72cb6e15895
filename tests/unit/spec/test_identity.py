from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.spec.identity import job_key
from tests.builders import a_job


def test_a_key_does_not_change_between_releases() -> None:
    """Records written by an earlier version are found by it: change the schema tag when this must change."""
    assert job_key(a_job()) == "1695af25ead215a1"


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
        {"alloc_conf": "expandable_segments:True"},
        {"gpu": "a40"},
        {"gpu_memory_bytes": 2**40},
    ],
    ids=str,
)
def test_every_field_counts(changes: dict[str, Any]) -> None:
    assert job_key(a_job(**changes)) != job_key(a_job())


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
