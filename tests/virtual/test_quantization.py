"""bitsandbytes' own libraries run on the virtual card: 4-bit, 8-bit, and optimizers paged to the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from profiler.units import MIB
from profiler.virtual.values import TrueValues
from tests.versions import since
from tests.virtual.harness import WarmMachines, live_state

BLOCK_SIZE = 256 if since(bitsandbytes="0.44") else 2048
"""Elements of an optimizer's state in 8 bits that share a scale (bitsandbytes' pull request 1365)."""


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_a_weight_in_4_bits_takes_a_quarter_and_comes_back_whole(
    virtual_gpu: WarmMachines, quant_type: str
) -> None:
    seen = virtual_gpu("rtx-4090", _quantize, quant_type)
    assert seen["packed"] == [1024 * 1024 // 2, 1]
    assert seen["absmax"] == 1024 * 1024 // 64
    assert seen["restored"] == [[1024, 1024], "torch.bfloat16"]
    assert seen["unknown_functions"] == 0


def _quantize(quant_type: str) -> dict[str, Any]:
    import bitsandbytes.functional as bnb

    weight = torch.randn(1024, 1024, device="cuda", dtype=torch.bfloat16)
    packed, state = bnb.quantize_4bit(weight, quant_type=quant_type, blocksize=64)
    restored = bnb.dequantize_4bit(packed, state)
    return {
        "packed": list(packed.shape),
        "absmax": state.absmax.numel(),
        "restored": [list(restored.shape), str(restored.dtype)],
        "unknown_functions": live_state().num_unknown,
    }


@pytest.mark.parametrize("layer", ["Linear4bit", "Linear8bitLt"])
@pytest.mark.parametrize("gpu_id", ["rtx-3090", "rtx-4090", "a100-80gb", "h100-80gb"])
def test_a_quantized_layer_runs_forward_and_backward(
    virtual_gpu: WarmMachines, gpu_id: str, layer: str
) -> None:
    seen = virtual_gpu(gpu_id, _run_layer, layer)
    assert seen["weight_bytes"] == 512 * 1024 // (2 if layer == "Linear4bit" else 1)
    assert seen["out"] == [2, 300, 512]
    assert seen["gradient"] == [2, 300, 1024]
    assert seen["unknown_functions"] == 0


def _run_layer(name: str) -> dict[str, Any]:
    from bitsandbytes.nn import modules

    layers: dict[str, dict[str, Any]] = {
        "Linear4bit": {"compute_dtype": torch.bfloat16, "quant_type": "nf4"},
        "Linear8bitLt": {"has_fp16_weights": False, "threshold": 6.0},
    }
    layer: Any = getattr(modules, name)(1024, 512, bias=False, **layers[name])
    with TrueValues():
        layer = layer.to("cuda")
        x = torch.randn(2, 300, 1024, device="cuda", dtype=torch.float16, requires_grad=True)
        out = layer(x)
        out.sum().backward()
    assert x.grad is not None
    return {
        "weight_bytes": layer.weight.nbytes,
        "out": list(out.shape),
        "gradient": list(x.grad.shape),
        "unknown_functions": live_state().num_unknown,
    }


@pytest.mark.parametrize("name", ["AdamW8bit", "PagedAdamW8bit", "PagedAdamW32bit", "Lion8bit", "AdamW"])
def test_an_optimizer_keeps_its_state_where_it_says(virtual_gpu: WarmMachines, name: str) -> None:
    seen = virtual_gpu("rtx-4090", _step, name)
    num_elements = 1024 * 1024
    # Two states, in 32 bits, or in 8 with a scale in 32 for each block of elements; Lion has one.
    scales = num_elements // BLOCK_SIZE * 4
    quantized = num_elements + scales
    on_card, paged = {
        "AdamW8bit": (2 * quantized, 0),
        "Lion8bit": (quantized, 0),
        "AdamW": (8 * num_elements, 0),
        "PagedAdamW8bit": (2 * scales, 2 * num_elements),
        "PagedAdamW32bit": (0, 8 * num_elements),
    }[name]
    assert seen["managed"] == paged
    assert on_card <= seen["state"] <= on_card + 16 * 1024  # quantization maps, of 256 values each
    assert seen["unknown_functions"] == 0


def _step(name: str) -> dict[str, int]:
    import bitsandbytes as bnb

    weight = torch.nn.Parameter(torch.randn(1024, 1024, device="cuda"))
    optimizer = getattr(bnb.optim, name)([weight], lr=1e-3)
    weight.grad = torch.randn_like(weight)
    before = torch.cuda.memory_allocated()
    optimizer.step()
    optimizer.step()
    return {
        "state": torch.cuda.memory_allocated() - before,
        "managed": live_state().managed_bytes,
        "unknown_functions": live_state().num_unknown,
    }


def test_managed_memory_is_the_hosts_to_write_and_counts_apart_from_the_cards(
    virtual_gpu: WarmMachines,
) -> None:
    seen = virtual_gpu("rtx-4090", _write_managed_memory)
    assert seen["read"] == [3.5, 3.5]
    assert seen["managed"] == [8 * MIB, 0]
    assert seen["managed_peak"] == 8 * MIB
    assert seen["held"] == 0


def _write_managed_memory() -> dict[str, Any]:
    import bitsandbytes.functional as bnb

    torch.cuda.init()
    paged = bnb.get_paged(1024, 2048, dtype=torch.float32)
    paged.fill_(3.5)
    state = live_state()
    seen = {"read": [paged[0, 0].item(), paged[-1, -1].item()], "held": state.devices[0].held_bytes}
    during = state.managed_bytes
    import ctypes

    assert ctypes.CDLL(None).cudaFree(ctypes.c_void_p(paged.data_ptr())) == 0
    return {**seen, "managed": [during, state.managed_bytes], "managed_peak": state.managed_peak_bytes}
