"""Convolutions run on the virtual card, and say where cuDNN did work whose workspace is not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from profiler.virtual.values import TrueValues
from tests.versions import dtype_argument, needs
from tests.virtual.harness import WarmMachines, live_state

# A layer, and its input's shape.
Case = tuple[Callable[[], torch.nn.Module], tuple[int, ...]]
CASES: dict[str, Case] = {
    "causal depthwise 1d": (lambda: torch.nn.Conv1d(256, 256, 4, groups=256, padding=3), (2, 256, 128)),
    "causal depthwise 1d, no bias": (
        lambda: torch.nn.Conv1d(256, 256, 4, groups=256, padding=3, bias=False),
        (2, 256, 128),
    ),
    "1d": (lambda: torch.nn.Conv1d(64, 128, 3, padding=1), (2, 64, 100)),
    "2d": (lambda: torch.nn.Conv2d(3, 16, 3, padding=1), (2, 3, 32, 32)),
    "2d, strided": (lambda: torch.nn.Conv2d(3, 64, 16, stride=16), (2, 3, 224, 224)),
    "3d": (lambda: torch.nn.Conv3d(3, 8, 2, stride=2), (1, 3, 4, 16, 16)),
    "transposed 2d": (lambda: torch.nn.ConvTranspose2d(8, 4, 2, stride=2), (1, 8, 10, 10)),
}
# In 32 bits torch runs depthwise convolutions itself; in 16 it weighs the shape.
USES_CUDNN = {name: "depthwise" not in name for name in CASES}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", CASES)
def test_a_convolution_runs_forward_and_backward(virtual_gpu: WarmMachines, case: str, dtype: str) -> None:
    seen = virtual_gpu("rtx-4090", _convolve, case, dtype)
    assert seen["shape"] == seen["shape_on_cpu"]
    assert seen["gradients"] == seen["parameters"]
    assert seen["unknown_functions"] == 0


@pytest.mark.parametrize("case", CASES)
def test_work_of_cudnn_is_counted(virtual_gpu: WarmMachines, case: str) -> None:
    calls = virtual_gpu("rtx-4090", _convolve, case, "float32")["cudnn_calls"]
    assert (calls > 0) == USES_CUDNN[case], calls


@pytest.mark.parametrize("gpu_id", ["rtx-3090", "a100-80gb", "h100-80gb", "b200"])
def test_a_convolution_runs_on_every_generation(virtual_gpu: WarmMachines, gpu_id: str) -> None:
    seen = virtual_gpu(gpu_id, _convolve, "2d", "bfloat16")
    assert seen["shape"] == seen["shape_on_cpu"]


def test_a_convolution_runs_while_cudnn_is_benchmarked(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _benchmark) == [2, 16, 32, 32]


def _convolve(case: str, dtype: str) -> dict[str, Any]:
    make, shape = CASES[case]
    on_cpu = make()
    layer = make().to("cuda", getattr(torch, dtype))
    x = torch.randn(shape, device="cuda", dtype=getattr(torch, dtype), requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert x.grad is not None
    state = live_state()
    return {
        "shape": list(out.shape),
        "shape_on_cpu": list(on_cpu(torch.zeros(shape)).shape),
        "parameters": [list(p.shape) for p in layer.parameters()],
        "gradients": [None if p.grad is None else list(p.grad.shape) for p in layer.parameters()],
        "cudnn_calls": state.cudnn_calls,
        "unknown_functions": state.num_unknown,
    }


def _benchmark() -> list[int]:
    torch.backends.cudnn.benchmark = True
    layer = torch.nn.Conv2d(3, 16, 3, padding=1).cuda()
    out = layer(torch.randn(2, 3, 32, 32, device="cuda"))
    out.sum().backward()
    return list(out.shape)


@needs(transformers="5")
def test_a_layer_of_a_gated_delta_net_trains(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _train_qwen35)
    assert "linear_attention" in seen["layers"]
    assert seen["num_gradients"] == seen["num_trainable"] > 0
    assert seen["unknown_functions"] == 0
    assert seen["unknown_reads"] == {}


def _train_qwen35() -> dict[str, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM

    from profiler.jobs.models import list_presets
    from profiler.jobs.presets import read_config_file

    (preset,) = [preset for preset in list_presets() if preset.id == "qwen3.5-0.8b"]
    fields = read_config_file(preset.config_path)
    config: Any = AutoConfig.for_model(str(fields.pop("model_type")), **fields)
    text = config.get_text_config()
    text.num_hidden_layers, text.vocab_size = 1, 1000
    text.layer_types = text.layer_types[:1]
    auto: Any = AutoModelForCausalLM
    with TrueValues() as values:
        with torch.device("cuda"):
            model = auto.from_config(config, **dtype_argument(torch.bfloat16))
        optimizer = torch.optim.AdamW(model.parameters())
        ids = torch.randint(1000, (2, 300)).to("cuda")
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, use_cache=False).loss.backward()
        optimizer.step()
    return {
        "layers": text.layer_types,
        "num_trainable": sum(p.requires_grad for p in model.parameters()),
        "num_gradients": sum(p.grad is not None for p in model.parameters()),
        "unknown_functions": live_state().num_unknown,
        "unknown_reads": dict(values.unknown_reads.sites),
    }
