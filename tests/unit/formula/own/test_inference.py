from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.formula.breakdown import shape_of
from profiler.formula.configs import architecture_of
from profiler.formula.own.peakvram import PEAKVRAM
from tests.unit.formula.shapes import a_tuning

if TYPE_CHECKING:
    from collections.abc import Mapping

# Llama-3.2-1B: its blocks, and the width of its keys (8 heads of 64).
NUM_LAYERS, KV_WIDTH = 16, 8 * 64


def instants(**changes: Any) -> dict[str, Mapping[str, Any]]:
    job = a_tuning("inference", model="llama-3.2-1b", **{"batch_size": 2, "seq_len": 1024, **changes})
    architecture = architecture_of(job.model)
    assert PEAKVRAM.refusal(job, architecture) is None
    breakdown = PEAKVRAM.evaluate(job, architecture, shape_of(job))
    return {instant.name: instant.terms for instant in breakdown.instants}


def test_the_cache_holds_keys_and_values_of_every_token_but_the_last() -> None:
    terms = instants(method_new_tokens=33)
    a_token = 2 * NUM_LAYERS * KV_WIDTH * 2
    assert terms["prefill"]["kv_cache"] == a_token * 2 * 1024
    assert terms["decode"]["kv_cache"] == a_token * 2 * (1024 + 32)


def test_a_single_token_needs_no_decoding() -> None:
    assert list(instants(method_new_tokens=1)) == ["loading", "prefill"]


def test_float32_doubles_the_cache_and_quantization_leaves_it() -> None:
    narrow, wide, quantized = (
        instants(**changes)["prefill"]["kv_cache"]
        for changes in ({}, {"precision": "fp32"}, {"method_quant": "nf4"})
    )
    assert (wide, quantized) == (2 * narrow, narrow)


def test_nothing_is_trained() -> None:
    for terms in instants().values():
        assert not {"gradients", "optimizer_state", "adapters", "saved_activations"} & set(terms)


def test_one_thread_multiplies() -> None:
    assert instants(gpu="a100-80gb")["decode"]["workspaces"] == 8_519_680
