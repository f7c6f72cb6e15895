"""Whose the allocated bytes are: every live block of the allocator given to one component.

Blocks belong to the tensors that start in them, storage by storage, in the order of `owned_tensors`. What no
tensor of the job owns is a cuBLAS workspace, an activation, or other; so the components add up to the
allocator's own figure by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from profiler.measure.allocator import LiveBlock, live_blocks
from profiler.records.schema import Components

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# PyTorch's CublasHandlePool.cpp: the default workspace is 4096 KiB x 2 + 16 KiB x 8; from Hopper on 32 MiB.
_WORKSPACE_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024
_HOPPER_WORKSPACE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """A model's tensors by kind: walking through thousands of modules takes longer than a phase."""

    named_parameters: list[tuple[str, torch.nn.Parameter]]
    named_buffers: list[tuple[str, torch.Tensor]]
    parameters: list[torch.nn.Parameter]
    adapter: list[torch.nn.Parameter]
    buffers: list[torch.Tensor]
    quantized: list[torch.nn.Module]


@dataclass(slots=True)
class Holdings:
    """What the job holds right now, for counting; filled in as the job goes on."""

    model: torch.nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    batches: list[dict[str, torch.Tensor]] = field(default_factory=list)  # on the card
    kv_cache: object | None = None  # as transformers made it
    num_threads_with_workspace: int = 0  # that have run a matrix product: the main one, then autograd's
    other_before_step_bytes: int | None = None  # nobody's before the step: not its activations
    _members: _Members | None = None

    def members(self) -> _Members:
        """The model's tensors; once there is an optimizer they no longer change."""
        assert self.model is not None
        if self._members is None or self.optimizer is None:
            self._members = _list_members(self.model)
        return self._members


def count_components(holdings: Holdings) -> Components:
    """Split the bytes allocated now into components; their sum is the allocator's figure."""
    unowned = live_blocks()
    counted = {name: _take(unowned, tensors) for name, tensors in owned_tensors(holdings)}
    workspace_bytes = _take_workspaces(unowned, holdings.num_threads_with_workspace)
    rest_bytes = sum(block.size_bytes for block in unowned.values())
    before = holdings.other_before_step_bytes
    other_bytes = rest_bytes if before is None else min(before, rest_bytes)
    return Components(
        **counted,
        workspace_bytes=workspace_bytes,
        activations_bytes=rest_bytes - other_bytes,
        other_bytes=other_bytes,
    )


def unowned_bytes(holdings: Holdings) -> int:
    """What no tensor of the job owns right now, workspaces aside."""
    components = count_components(holdings)
    return components.activations_bytes + components.other_bytes


def owned_tensors(holdings: Holdings) -> Iterator[tuple[str, Iterable[torch.Tensor]]]:
    """Components and the tensors that belong to them, the more particular before the more general."""
    if holdings.model is not None:
        members = holdings.members()
        yield "adapter_bytes", members.adapter
        yield "quantization_state_bytes", chain.from_iterable(map(_quantization_state, members.quantized))
        yield "weights_bytes", members.parameters
        yield "gradients_bytes", [p.grad for p in members.parameters if p.grad is not None]
        yield "buffers_bytes", members.buffers
    if holdings.optimizer is not None:
        # Lookup tables of 8-bit optimizers (`name2qmap`) are state of the optimizer, not of a parameter.
        state = chain(holdings.optimizer.state.values(), [getattr(holdings.optimizer, "name2qmap", {})])
        yield "optimizer_bytes", _tensors_in(list(state))
    yield "batch_bytes", chain.from_iterable(batch.values() for batch in holdings.batches)
    yield "kv_cache_bytes", _cached(holdings.kv_cache)


def _list_members(model: torch.nn.Module) -> _Members:
    adapter = adapter_prefix(model)
    named = list(model.named_parameters())
    named_buffers = list(model.named_buffers())
    return _Members(
        named_parameters=named,
        named_buffers=named_buffers,
        parameters=[p for _, p in named],
        adapter=[p for name, p in named if is_of_adapter(name, adapter)],
        buffers=[buffer for _, buffer in named_buffers],
        quantized=[module for module in model.modules() if _is_quantized(module)],
    )


def adapter_prefix(model: torch.nn.Module) -> str | None:
    """The part of a parameter's name that marks it as the adapter's, as peft names it (`lora_`)."""
    if not hasattr(model, "peft_config"):
        return None
    prefix: str | None = getattr(model.base_model, "prefix", None)
    return prefix


def is_of_adapter(name: str, prefix: str | None) -> bool:
    """Whether a parameter is an adapter's, or of a module that peft copied to train it beside them."""
    return prefix is not None and (prefix in name or ".modules_to_save." in name)


def _is_quantized(module: torch.nn.Module) -> bool:
    """Whether a module's own weight is one of bitsandbytes' types (a LoRA layer's is its base layer's)."""
    return is_quantized_weight(dict(module.named_parameters(recurse=False)).get("weight"))


def is_quantized_weight(weight: torch.Tensor | None) -> bool:
    """Whether a weight is of one of bitsandbytes' types; one that is not loaded yet is already."""
    return type(weight).__name__ in {"Params4bit", "Int8Params"}


def num_elements(parameter: torch.nn.Parameter) -> int:
    """Elements of a parameter, of a packed 4-bit one unpacked."""
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()


def _quantization_state(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Scales, codes and statistics of a bitsandbytes weight, without the quantized data itself."""
    weight = dict(module.named_parameters(recurse=False))["weight"]
    state = getattr(weight, "quant_state", None)
    if state is not None:  # 4-bit; double quantization adds an offset and a second level
        nested = getattr(state, "state2", None)
        yield from _tensors_in([state.absmax, state.code])
        yield from _tensors_in([state.offset, nested.absmax, nested.code] if nested is not None else [])
    # 8-bit: the first product moves the scales from the weight to the module's own state.
    yield from _tensors_in(
        [getattr(weight, "SCB", None), getattr(getattr(module, "state", None), "SCB", None)]
    )


def _cached(cache: object | None) -> Iterator[torch.Tensor]:
    """The tensors of a cache of transformers: each layer has its own; version 4 has lists or just tuples."""
    held = getattr(cache, "__dict__", cache)
    yield from _tensors_in([held, [vars(layer) for layer in getattr(cache, "layers", [])]])


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)


def _take(unowned: dict[int, LiveBlock], tensors: Iterable[torch.Tensor]) -> int:
    # A storage begins where its block does; one outside the allocator (managed memory) has no block.
    addresses = (tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.is_cuda)
    return sum(unowned.pop(address).size_bytes for address in addresses if address in unowned)


def _take_workspaces(unowned: dict[int, LiveBlock], num_threads: int) -> int:
    """Take at most one block that may be a workspace for each thread that has used cuBLAS.

    Another that was asked for with that very size may be taken in its place.
    """
    addresses = [address for address, block in unowned.items() if is_workspace(block)][:num_threads]
    return sum(unowned.pop(address).size_bytes for address in addresses)


def is_workspace(block: LiveBlock) -> bool:
    """Whether a block that no tensor of the job owns may be a workspace of cuBLAS: as much was asked for.

    The block itself may be larger, as one is that was not worth splitting.
    """
    return block.requested_bytes == workspace_size()


def workspace_size() -> int:
    """Bytes of the workspace that cuBLAS takes for each thread that uses it."""
    # The name in torch 2.14; older releases have no way to ask.
    ask = getattr(torch.backends.cuda, "cublas_workspace_size", None)
    if callable(ask):
        return int(ask())
    major, _ = torch.cuda.get_device_capability()
    return _HOPPER_WORKSPACE_BYTES if major >= 9 else _WORKSPACE_BYTES  # compute capability 9.0
