"""Following values changes nothing that the allocator does: every event is that of a run without it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd.graph import save_on_cpu

from profiler.virtual.values import TrueValues
from tests.versions import dtype_argument

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.virtual.harness import WarmMachines

SMALL = {
    "num_hidden_layers": 3,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1536,
    "vocab_size": 4096,
}


@pytest.mark.parametrize("checkpointing", ["none", "recomputing", "reentrant"])
@pytest.mark.parametrize("method", ["full", "lora", "4-bit"])
def test_a_backward_pass_allocates_alike_whether_values_are_followed_or_not(
    virtual_gpu: WarmMachines, method: str, checkpointing: str
) -> None:
    followed = virtual_gpu("a100-80gb", _events_of_a_backward, method, checkpointing, True)
    assert len(followed) > 100
    assert followed == virtual_gpu("a100-80gb", _events_of_a_backward, method, checkpointing, False)


@pytest.mark.parametrize("checkpointing", ["none", "recomputing", "reentrant"])
@pytest.mark.parametrize("hooks", ["steps", "counts", "offloads"])
def test_hooks_allocate_alike_whether_they_are_followed_or_not(
    virtual_gpu: WarmMachines, hooks: str, checkpointing: str
) -> None:
    followed = virtual_gpu("a100-80gb", _events_of_a_backward, "full", checkpointing, True, hooks)
    assert len(followed) > 100
    assert followed == virtual_gpu("a100-80gb", _events_of_a_backward, "full", checkpointing, False, hooks)


def test_what_a_checkpoint_recomputes_is_followed(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("a100-80gb", _sizes_in_a_recomputation) == [3, 3]


def test_the_backward_of_a_python_function_is_followed(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("a100-80gb", _count_in_a_backward) == 2


def _events_of_a_backward(
    method: str, checkpointing: str, follows_values: bool, hooks: str = "none"
) -> list[Any]:
    with TrueValues() if follows_values else nullcontext():
        model = _small_model(method)
        surroundings = _hang_hooks(model, hooks)
        if checkpointing != "none":
            kwargs = {"use_reentrant": checkpointing == "reentrant"}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
            model.enable_input_require_grads()
        ids = torch.zeros(2, 256, dtype=torch.long).to("cuda")
        # With a mask that is given, no value decides anything in the forward pass either.
        mask = torch.zeros(2, 1, 256, 256, dtype=torch.bfloat16, device="cuda")
        with surroundings:
            loss = model(input_ids=ids, labels=ids, attention_mask=mask, use_cache=False).loss
        torch.cuda.memory._record_memory_history(max_entries=100_000, stacks="python", context=None)
        loss.backward()
    events = torch.cuda.memory._snapshot()["device_traces"][0]
    return [(event["action"], event["size"]) for event in events]


def _hang_hooks(model: torch.nn.Module, hooks: str) -> AbstractContextManager[Any]:
    """Has optimizers step as gradients come in, or each layer count a mask on the way back."""
    mask = torch.ones(100, dtype=torch.bool, device="cuda")

    def count(*_: object) -> None:
        int(mask.logical_not().sum())

    if hooks == "steps":
        for parameter in model.parameters():
            _step_at_once(parameter)
    elif hooks == "counts":
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_full_backward_hook(count)
                module.register_full_backward_pre_hook(count)
    return save_on_cpu() if hooks == "offloads" else nullcontext()


def _step_at_once(parameter: torch.nn.Parameter) -> None:
    optimizer = torch.optim.AdamW([parameter])

    def step(_: torch.Tensor) -> None:
        optimizer.step()
        optimizer.zero_grad()

    parameter.register_post_accumulate_grad_hook(step)


def _small_model(method: str) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    with torch.device("cuda"):
        model = auto.from_config(
            AutoConfig.for_model("llama", **SMALL), **dtype_argument(torch.bfloat16)
        ).train()
    if method == "full":
        return model
    if method == "4-bit":
        _quantize(model)
    return get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))


def _quantize(model: torch.nn.Module) -> None:
    from bitsandbytes.nn.modules import Linear4bit

    for layer in list(model.modules()):
        for name, child in list(layer.named_children()):
            if isinstance(child, torch.nn.Linear) and name != "lm_head":
                narrow = Linear4bit(child.in_features, child.out_features, bias=False)
                narrow.load_state_dict({"weight": child.weight.detach().cpu()})
                setattr(layer, name, narrow.to("cuda"))


def _sizes_in_a_recomputation() -> list[int]:
    from torch.utils.checkpoint import checkpoint

    sizes: list[int] = []

    def block(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        positions = (mask & mask).nonzero()
        sizes.append(len(positions))
        return x.sin().sum()

    with TrueValues():
        mask = torch.tensor([True, False, True, True]).to("cuda")
        x = torch.zeros(4, device="cuda", requires_grad=True)
        checkpoint(block, x, mask, use_reentrant=False).backward()
    return sizes


def _count_in_a_backward() -> int:
    counts: list[int] = []

    class Count(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(mask)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
            (mask,) = ctx.saved_tensors
            counts.append(int(mask.logical_not().sum()))
            return gradients[0], None

    with TrueValues():
        mask = torch.tensor([True, False, True, False, True]).to("cuda")
        x = torch.zeros(5, device="cuda", requires_grad=True)
        applied: Any = Count.apply
        applied(x, mask).sum().backward()
    return counts[0]
