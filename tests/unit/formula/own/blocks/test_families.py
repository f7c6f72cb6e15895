"""What must hold of every family's block, at the widths of a real model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profiler.formula.breakdown import Shape
from profiler.formula.configs import architecture_of
from profiler.formula.own.blocks.families import BLOCKS
from profiler.formula.own.peakvram import PEAKVRAM
from tests.unit.formula.shapes import a_shape, a_tuning

PRESETS = {
    "llama": "llama-3.2-1b",
    "mistral": "mistral-7b-v0.1",
    "qwen2": "qwen2.5-7b",
    "qwen3": "qwen3-0.6b",
    "gemma2": "gemma-2-2b",
    "gpt2": "gpt2",
    "phi": "phi-2",
    "mixtral": "mixtral-8x7b",
    "qwen3_moe": "qwen3-30b-a3b",
}


def peak(family: str, kind: str, shape: Shape, **changes: Any) -> Any:
    attention = "eager" if family == "gemma2" else "sdpa"
    job = a_tuning(kind, model=PRESETS[family], attention=attention, **changes)
    architecture = architecture_of(job.model)
    assert PEAKVRAM.refusal(job, architecture) is None
    return PEAKVRAM.evaluate(job, architecture, shape).peak_bytes


def test_every_followed_family_has_a_preset() -> None:
    assert set(PRESETS) == set(BLOCKS)


@pytest.mark.parametrize("family", BLOCKS)
@pytest.mark.parametrize("kind", ["full", "lora", "qlora", "int8-lora"])
@pytest.mark.parametrize("is_checkpointed", [True, False])
def test_a_larger_batch_needs_more_and_many_at_once_are_each_alone(
    family: str, kind: str, is_checkpointed: bool
) -> None:
    changes = {"gradient_checkpointing": is_checkpointed, "optimizer": "sgd"}
    batches, lengths = [1, 2, 4, 4], [512, 512, 512, 1000]
    together = peak(family, kind, Shape(batch_size=np.array(batches), seq_len=np.array(lengths)), **changes)
    alone = [
        peak(family, kind, a_shape(batch, length), **changes)
        for batch, length in zip(batches, lengths, strict=True)
    ]
    assert together.tolist() == alone
    assert alone == sorted(alone)
    assert alone[-1] > alone[0]


@pytest.mark.parametrize("family", BLOCKS)
def test_checkpointing_saves_memory_at_a_long_length(family: str) -> None:
    shape = a_shape(8, 1024)
    assert peak(family, "lora", shape) < peak(family, "lora", shape, gradient_checkpointing=False)


def refusal(kind: str, model: str, **changes: Any) -> str | None:
    return PEAKVRAM.refusal(a_tuning(kind, model=model, **changes), architecture_of(model))


@pytest.mark.parametrize(
    ("kind", "model", "changes", "reason"),
    [
        (
            "lora",
            "phi-2",
            {"precision": "bf16-autocast"},
            "autocast is not followed in the blocks of phi models",
        ),
        ("lora", "gpt2", {"attention": "eager"}, "dropout in eager attention is not followed"),
        (
            "lora",
            "mixtral-8x7b",
            {"method_targets": "q_proj,gate_proj"},
            "adapters of some experts only are not followed",
        ),
        ("lora", "llama-3.2-1b", {"method_use_dora": True}, "DoRA's magnitudes are not followed"),
        (
            "lora",
            "llama-3.2-1b",
            {"method_modules_to_save": "lm_head"},
            "modules that are trained beside adapters are not followed",
        ),
        (
            "lora",
            "mixtral-8x7b",
            {"method_autocast_adapter_dtype": False},
            "adapters of experts in 16 bits are not followed",
        ),
        (
            "full",
            "mixtral-8x7b",
            {"accumulation": 2},
            "gradients of experts that accumulate are not followed",
        ),
        ("full", "llama-3.2-1b", {"neftune_alpha": 5}, "NEFTune's noise is not followed"),
        (
            "qlora",
            "llama-3.2-1b",
            {"method_trl_casting": True},
            "trl's casting is followed for Llama's blocks, prepared and under bf16-autocast, alone",
        ),
        ("full", "llama-3.2-1b", {"loss": "chunked"}, "a loss in chunks is not followed"),
        ("full", "llama-3.2-1b", {"attention_mask": "packed"}, "packed rows are not followed"),
        ("inference", "phi-2", {}, "inference of phi models is not followed"),
    ],
)
def test_what_is_not_followed_is_refused_with_its_reason(
    kind: str, model: str, changes: dict[str, Any], reason: str
) -> None:
    assert refusal(kind, model, **changes) == reason


def test_attention_adapters_leave_experts_alone() -> None:
    assert refusal("lora", "mixtral-8x7b", method_targets="q_proj,v_proj") is None
    few, all_linear = (
        peak("mixtral", "lora", a_shape(1, 512), method_targets=targets)
        for targets in ("q_proj,k_proj,v_proj,o_proj", "all-linear")
    )
    assert all_linear > few
