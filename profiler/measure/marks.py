"""Which module of a model is at work, told to the allocator: its history then has it with every event.

Global hooks see every module's forward pass, recomputed ones included. In a backward pass nothing may touch
a gradient on its way, for then autograd would no longer add to it in place; so there the marks come from
parameters whose gradient has just been added, and from the block that was recomputed last.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from profiler.records.schema import PhaseName
from profiler.records.trace import Mark, Work
from profiler.virtual.torch_private import EVENT_METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from profiler.measure.phases import Recorder

_SEPARATOR = "|"


class ModuleMarks:
    """Marks every event of the allocator's history until it is closed; nothing where torch is too old."""

    def __init__(self, recorder: Recorder) -> None:
        """Hooks in; the modules' names are looked up once the model is there.

        Args:
            recorder: knows the model, and which step it is.
        """
        self._recorder = recorder
        self._set: Callable[[str], None] | None = EVENT_METADATA.find_if_there()
        self._model: torch.nn.Module | None = None
        self._names: dict[int, str] = {}
        self._heads: frozenset[str] = frozenset()
        self._local = threading.local()
        self._hooks = ExitStack()
        if self._set is not None:
            self._hooks.callback(register_module_forward_pre_hook(self._enter).remove)
            self._hooks.callback(register_module_forward_hook(self._leave, always_call=True).remove)

    def close(self) -> None:
        """Takes all hooks out."""
        self._hooks.close()

    def _enter(self, module: torch.nn.Module, _arguments: object) -> None:
        names = self._names_now()
        stack = self._stack()
        above = stack[-1] if stack else ""
        stack.append(names.get(id(module), above))
        self._tell_module(stack[-1])

    def _leave(self, _module: torch.nn.Module, _arguments: object, _output: object) -> None:
        stack = self._stack()
        left = stack.pop() if stack else ""
        if stack:
            self._tell_module(stack[-1])
        elif self._is_backward():  # a checkpoint's recomputation is over, and the block's own turn comes
            self._tell(Work.BACKWARD, left)
        else:
            self._tell(Work.NONE, "")

    def _stack(self) -> list[str]:
        stack: list[str] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def _is_backward(self) -> bool:
        current = self._recorder.current
        return current is not None and current.phase is PhaseName.BACKWARD

    def _tell_module(self, name: str) -> None:
        is_head = name in self._heads
        self._tell(Work.HEAD if is_head else Work.FORWARD, name)

    def _tell(self, work: Work, module: str) -> None:
        assert self._set is not None, "there are no hooks otherwise"
        _, *numbers = self._recorder.current or (None, None, None)
        self._set(_SEPARATOR.join((work, *("" if one is None else str(one) for one in numbers), module)))

    def _names_now(self) -> Mapping[int, str]:
        model = self._recorder.holdings.model
        if model is not None and model is not self._model:
            self._model = model
            self._names = {id(module): name for name, module in model.named_modules()}
            self._heads = _heads(model, self._names)
            self._watch_gradients(model)
        return self._names

    def _watch_gradients(self, model: torch.nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(
                    self._gradient_hook(name.rpartition(".")[0])
                )
                self._hooks.callback(hook.remove)

    def _gradient_hook(self, module: str) -> Callable[[torch.Tensor], None]:
        def told(_parameter: torch.Tensor) -> None:
            self._tell(Work.BACKWARD, module)

        return told


def read_mark(text: str) -> Mark:
    """The mark that an event's metadata holds."""
    if not text:
        return Mark(Work.NONE, "", None)
    work, step, micro_step, module = text.split(_SEPARATOR, maxsplit=3)
    return Mark(Work(work), module, int(step) if step else None, int(micro_step) if micro_step else None)


def _heads(model: torch.nn.Module, names: Mapping[int, str]) -> frozenset[str]:
    """The output layer, all in it, and the modules around it: what they do themselves is the loss."""
    find: Callable[[], Any] | None = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    name = names.get(id(head)) if head is not None else None
    if name is None:
        return frozenset({""})
    parts = name.split(".")
    around = {".".join(parts[:count]) for count in range(len(parts) + 1)}
    return frozenset(around | {other for other in names.values() if other.startswith(f"{name}.")})
