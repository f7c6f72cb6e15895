"""Which modules a step calls, and which it calls again in its backward pass; and what never was.

A hook that sees every module's forward pass keeps its id and nothing else: neither a tensor nor a value.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.modules.module import register_module_forward_pre_hook

from profiler.records.schema import PhaseName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.measure.phases import Recorder

_SAFE_SOFTMAX = "SafeSoftmaxBackward0"
"""What `_scaled_dot_product_attention_math` alone uses since torch 2.5 (`transformers/attention.cpp`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """What is known of a model's outputs.

    Attributes:
        num_elements: of the logits.
        dtype: theirs.
        loss_dtype: that of the loss; None where none was computed.
    """

    num_elements: int
    dtype: torch.dtype
    loss_dtype: torch.dtype | None


@dataclass(slots=True)
class Calls:
    """Ids of modules, while they were watched.

    Attributes:
        forward: those called outside a backward pass.
        again: those called in one, where checkpointing computes them again.
        logits: of the last forward pass that was completed and had any.
        num_plain_attention: how often its graph has attention that is computed as plain matrix products.
        is_complete: whether a forward pass was.
    """

    forward: set[int] = field(default_factory=set)
    again: set[int] = field(default_factory=set)
    logits: Logits | None = None
    num_plain_attention: int = 0
    is_complete: bool = False


@contextmanager
def watched_calls(model: torch.nn.Module, recorder: Recorder, calls: Calls) -> Iterator[None]:
    """While this lasts, the calls of a model's modules go into `calls`."""

    def enter(module: torch.nn.Module, _arguments: object) -> None:
        is_backward = recorder.current is not None and recorder.current.phase is PhaseName.BACKWARD
        (calls.again if is_backward else calls.forward).add(id(module))

    def leave(_module: torch.nn.Module, _arguments: object, outputs: object) -> None:
        calls.is_complete = True
        calls.logits = _logits_of(outputs) or calls.logits
        calls.num_plain_attention = _count_plain_attention(getattr(outputs, "loss", None))

    handles = (register_module_forward_pre_hook(enter), model.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _logits_of(outputs: Any) -> Logits | None:
    logits, loss = getattr(outputs, "logits", None), getattr(outputs, "loss", None)
    if not isinstance(logits, torch.Tensor):
        return None
    loss_dtype = loss.dtype if isinstance(loss, torch.Tensor) else None
    return Logits(num_elements=logits.numel(), dtype=logits.dtype, loss_dtype=loss_dtype)


def _count_plain_attention(loss: Any) -> int:
    """How many calls of `scaled_dot_product_attention` took its math kernel: its softmax alone is a safe one.

    Read from the names of autograd's nodes, from which no tensor is taken.
    """
    waiting, seen = [getattr(loss, "grad_fn", None)], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [function for function, _ in node.next_functions]
    return sum(node.name() == _SAFE_SOFTMAX for node in seen)


def never_called(model: torch.nn.Module, calls: Calls) -> Iterator[tuple[str, torch.nn.Module]]:
    """The outermost parts of a model that were never called, with their paths.

    A part is a module with modules of its own that have parameters: a single layer, or one with an adapter,
    may well be at work without a call, by its weight alone. Of modules in a list some of which were called,
    as experts are, the others had no turn.
    """
    reached = _reached(model, calls.forward)
    yield from _outermost(model, "", reached)


def _reached(model: torch.nn.Module, called: set[int]) -> set[int]:
    """Modules that were called, and those around them."""
    reached = set(called)
    for module in reversed(list(model.modules())):  # what is inside comes later there
        if any(id(child) in reached for child in module.children()):
            reached.add(id(module))
    return reached


def _outermost(
    module: torch.nn.Module, path: str, reached: set[int]
) -> Iterator[tuple[str, torch.nn.Module]]:
    if id(module) not in reached:
        is_layer = isinstance(module, BaseTunerLayer)
        if not is_layer and any(next(child.parameters(), None) is not None for child in module.children()):
            yield path, module
        return
    is_list = isinstance(module, torch.nn.ModuleList)
    for name, child in module.named_children():
        if id(child) in reached or not is_list:
            yield from _outermost(child, f"{path}.{name}" if path else name, reached)


def ignores_checkpointing(model: torch.nn.Module, calls: Calls) -> dict[str, tuple[int, int]]:
    """Of the modules that transformers has told to checkpoint: how many do not, of how many, by class.

    One does not if it was called and trains, and neither it nor a module in it was called again.
    """
    found: dict[str, tuple[int, int]] = {}
    reached, again = _reached(model, calls.forward), _reached(model, calls.again)
    for module in model.modules():
        if id(module) in reached and getattr(module, "gradient_checkpointing", False) is True:
            ignored, told = found.get(type(module).__name__, (0, 0))
            trains = any(parameter.requires_grad for parameter in module.parameters())
            found[type(module).__name__] = (ignored + (trains and id(module) not in again), told + 1)
    return {name: (ignored, told) for name, (ignored, told) in found.items() if ignored}
