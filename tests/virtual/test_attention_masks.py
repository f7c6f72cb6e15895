"""The attention that a model chooses by looking at its mask, and what that allocates, as on a real card."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from profiler.virtual.values import TrueValues
from tests.versions import dtype_argument, needs
from tests.virtual.harness import WarmMachines, live_state

TOKENS = 8192
SMALLEST_MASK_BYTES = TOKENS * TOKENS  # one byte for each pair of tokens
FAMILIES = ("llama", "mistral", "qwen2", pytest.param("qwen3", marks=needs(transformers="4.51")))
FLASH = ["_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward"]
EFFICIENT = ["_scaled_dot_product_efficient_attention", "_scaled_dot_product_efficient_attention_backward"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mask", ["none", "ones"])
def test_without_padding_no_tensor_of_length_by_length_is_allocated(
    virtual_gpu: WarmMachines, family: str, mask: str
) -> None:
    seen = virtual_gpu("a100-80gb", _train, family, mask)
    assert seen["attention"] == FLASH
    assert seen["masks"] == []
    assert seen["unknown_reads"] == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_with_padding_a_mask_of_length_by_length_is_allocated(virtual_gpu: WarmMachines, family: str) -> None:
    seen = virtual_gpu("a100-80gb", _train, family, "padded")
    assert seen["attention"] == EFFICIENT
    assert SMALLEST_MASK_BYTES in seen["masks"]
    assert seen["unknown_reads"] == {}


def test_a_mask_that_is_all_ones_costs_what_no_mask_costs(virtual_gpu: WarmMachines) -> None:
    without, with_ones = (
        virtual_gpu("a100-80gb", _train, "llama", mask)["peak"] for mask in ("none", "ones")
    )
    assert with_ones - without < 1 << 20  # the mask itself, and what looking at it takes


def test_without_true_values_a_mask_of_ones_looks_padded(virtual_gpu: WarmMachines) -> None:
    # Why they are kept: the peak would be another one.
    assert virtual_gpu("a100-80gb", _train, "llama", "ones", False)["masks"]


@needs(transformers="4.53")  # before, nobody looked for them
def test_two_packed_sequences_are_found_in_their_positions(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("a100-80gb", _train, "llama", "packed")
    assert seen["attention"] == EFFICIENT
    assert seen["masks"]


def _train(family: str, mask: str, keeps_values: bool = True) -> dict[str, Any]:
    from contextlib import nullcontext

    seen_attention = _SeenAttention()
    values = TrueValues()
    with values if keeps_values else nullcontext():
        model = _a_model(family)
        ids = torch.zeros(1, TOKENS, dtype=torch.long).to("cuda")
        torch.cuda.memory._record_memory_history(context=None)
        with seen_attention:
            model(input_ids=ids, labels=ids, use_cache=False, **_mask_arguments(mask)).loss.backward()
    events = torch.cuda.memory._snapshot()["device_traces"][0]
    return {
        "attention": sorted(seen_attention.names),
        "masks": [e["size"] for e in events if e["action"] == "alloc" and e["size"] >= SMALLEST_MASK_BYTES],
        "peak": torch.cuda.max_memory_allocated(),
        "unknown_reads": dict(values.unknown_reads.sites),
        "cudnn_calls": live_state().cudnn_calls,
    }


def _a_model(family: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        num_hidden_layers=2,
        hidden_size=512,
        num_attention_heads=8,
        num_key_value_heads=8,
        intermediate_size=1024,
        vocab_size=512,
        max_position_embeddings=TOKENS,
        head_dim=64,
    )
    config.sliding_window = None
    auto: Any = AutoModelForCausalLM
    with torch.device("cuda"):
        return auto.from_config(config, **dtype_argument(torch.bfloat16), attn_implementation="sdpa")


def _mask_arguments(mask: str) -> dict[str, torch.Tensor]:
    ones = torch.ones(1, TOKENS, dtype=torch.long)
    match mask:
        case "ones":
            return {"attention_mask": ones.to("cuda")}
        case "padded":
            ones[:, -100:] = 0
            return {"attention_mask": ones.to("cuda")}
        case "packed":
            return {"position_ids": torch.arange(TOKENS // 2).repeat(1, 2).to("cuda")}
        case _:
            return {}


class _SeenAttention(torch.utils._python_dispatch.TorchDispatchMode):
    """Which attention operators run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name.startswith("_scaled_dot_product"):
            self.names.add(name)
        return func(*args, **(kwargs or {}))


# torch 2.4 has it, and does not prefer it; 2.14 does.
@needs(torch="2.9")
@pytest.mark.parametrize("gpu_id", ["h100-80gb", "b200"])
def test_hopper_and_data_centre_blackwell_take_cudnn_attention_and_say_so(
    virtual_gpu: WarmMachines, gpu_id: str
) -> None:
    # torch prefers it there; its workspace is unknown, which is why the calls are counted.
    seen = virtual_gpu(gpu_id, _train, "llama", "ones")
    assert seen["attention"] == [
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_cudnn_attention_backward",
    ]
    assert seen["masks"] == []
    assert seen["cudnn_calls"] == 4  # two layers, forward and backward


@pytest.mark.parametrize(
    "gpu_id", ["rtx-3090", "rtx-4090", pytest.param("rtx-5090", marks=needs(torch="2.7")), "a100-80gb"]
)
def test_other_cards_take_flash_attention_without_cudnn(virtual_gpu: WarmMachines, gpu_id: str) -> None:
    seen = virtual_gpu(gpu_id, _train, "llama", "none")
    assert (seen["attention"], seen["cudnn_calls"]) == (FLASH, 0)
