"""Mixtures of experts, which route tokens by values nobody knows, train a step without a crash."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from profiler.virtual.values import TrueValues
from tests.versions import dtype_argument, needs, since
from tests.virtual.harness import WarmMachines, live_state

SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "vocab_size": 512,
    "head_dim": 32,
}

SELECTS = needs(transformers="5")
"""transformers' choice among ways to compute experts; before, there was the eager loop alone."""
IMPLEMENTATIONS = ("eager", *(pytest.param(name, marks=SELECTS) for name in ("grouped_mm", "batched_mm")))
FAMILIES = ("mixtral", pytest.param("qwen3_moe", marks=needs(transformers="4.51")))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_mixture_of_experts_trains_a_step(
    virtual_gpu: WarmMachines, family: str, implementation: str
) -> None:
    seen = virtual_gpu("h100-80gb", _train, family, implementation)
    assert seen["num_gradients"] > 10
    assert seen["allocated_peak"] > seen["weights"]
    assert seen["unknown_functions"] == 0


def test_reads_of_the_router_are_reported(virtual_gpu: WarmMachines) -> None:
    # Which experts are hit is decided by floating-point scores: the loop over them must be told as unknown.
    assert virtual_gpu("h100-80gb", _train, "mixtral", "eager")["unknown_reads"] > 0


@SELECTS
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_mixture_takes_the_same_memory_again(virtual_gpu: WarmMachines, family: str) -> None:
    assert virtual_gpu("a100-80gb", _train, family, "grouped_mm") == virtual_gpu(
        "a100-80gb", _train, family, "grouped_mm"
    )


def _train(family: str, implementation: str) -> dict[str, int]:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **SMALL)
    auto: Any = AutoModelForCausalLM
    chosen = {"experts_implementation": implementation} if since(transformers="5") else {}
    with TrueValues() as values:
        with torch.device("cuda"):
            model = auto.from_config(config, **dtype_argument(torch.bfloat16), **chosen)
        weights = torch.cuda.memory_allocated()
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            ids = torch.zeros(2, 64, dtype=torch.long).to("cuda")
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            num_gradients = sum(p.grad is not None for p in model.parameters())
            optimizer.step()
            optimizer.zero_grad()
    return {
        "weights": weights,
        "allocated_peak": torch.cuda.max_memory_allocated(),
        "num_gradients": num_gradients,
        "unknown_reads": values.unknown_reads.total,
        "unknown_functions": live_state().num_unknown,
    }
