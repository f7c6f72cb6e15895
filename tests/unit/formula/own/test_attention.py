from __future__ import annotations

from typing import Any

import pytest

from profiler.formula.own.attention import AttentionCost
from profiler.formula.own.scheme import scheme_of
from tests.unit.formula.shapes import a_model, a_shape, a_tuning

LLAMA = a_model(hidden_size=256)


def attention(kind: str = "lora", *, is_windowed: bool = False, **changes: Any) -> AttentionCost:
    job = a_tuning(kind, **changes)
    shape = a_shape(2, 512)
    return AttentionCost(
        job=job, architecture=LLAMA, scheme=scheme_of(job), shape=shape, is_windowed=is_windowed
    )


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({}, "flash"),
        ({"precision": "fp32"}, "efficient"),  # flash kernels compute in 16 bits
        ({"precision": "bf16-amp"}, "flash"),
        ({"kind": "qlora"}, "efficient"),  # prepared for k-bit training: float32
        ({"attention_mask": "padded"}, "efficient"),  # flash kernels take no mask
        ({"is_windowed": True}, "efficient"),
        ({"attention": "eager"}, "eager"),
    ],
)
def test_the_kernel_follows_from_type_and_mask(changes: dict[str, Any], kernel: str) -> None:
    assert attention(**changes).kernel == kernel


def test_a_mask_of_ones_is_no_mask() -> None:
    assert attention(attention_mask="full").mask_bytes == attention(attention_mask="none").mask_bytes == 0


def test_a_mask_is_a_byte_a_pair_for_sdpa_and_a_number_for_eager_attention() -> None:
    pairs = 2 * 512 * 512
    assert attention(attention_mask="padded").mask_bytes == pairs
    assert attention(attention="eager").mask_bytes == 2 * pairs
    assert attention("qlora", attention="eager").mask_bytes == 4 * pairs


def test_keys_are_repeated_where_the_kernel_cannot_share_them() -> None:
    assert not attention().repeats_keys
    assert attention(attention="eager").repeats_keys
    assert attention(attention_mask="padded").repeats_keys
