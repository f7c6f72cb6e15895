"""Hooks of a backward pass are followed, whatever they hang on, and nothing else of the pass is."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd.graph import register_multi_grad_hook, save_on_cpu, saved_tensors_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.virtual.harness import WarmMachines

    Hook = Callable[..., Any]


class Double(torch.autograd.Function):
    """A function with a node that is written in Python."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(_ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * 2


def _double(x: torch.Tensor) -> torch.Tensor:
    function: Any = Double
    doubled: torch.Tensor = function.apply(x)
    return doubled


def _on_a_module(register: str) -> Hook:
    def run(x: torch.Tensor, hook: Hook) -> torch.Tensor:
        layer = torch.nn.Linear(5, 5, device=x.device)
        getattr(layer, register)(hook)
        return layer(x)  # type: ignore[no-any-return]

    return run


def _on_a_node(register: str, function: Callable[[torch.Tensor], torch.Tensor]) -> Hook:
    def run(x: torch.Tensor, hook: Hook) -> torch.Tensor:
        y = function(x)
        getattr(y.grad_fn, register)(hook)
        return y

    return run


def _on_a_tensor(register: str) -> Hook:
    def run(x: torch.Tensor, hook: Hook) -> torch.Tensor:
        getattr(x, register)(hook)
        return x.sin()

    return run


def _on_several(when: Any) -> Hook:
    def run(x: torch.Tensor, hook: Hook) -> torch.Tensor:
        y = x.sin()
        register_multi_grad_hook((x, y), hook, mode=when)
        return y

    return run


def _inside(x: torch.Tensor, hook: Hook) -> torch.Tensor:
    y = x.sin()
    y.register_hook(hook)
    return y


def _on_what_is_saved(x: torch.Tensor, hook: Hook) -> torch.Tensor:
    with saved_tensors_hooks(lambda saved: saved, lambda saved: (hook(), saved)[1]):
        return x.sin()


def _at_the_end(x: torch.Tensor, hook: Hook) -> torch.Tensor:
    engine: Any = vars(torch.autograd.Variable)["_execution_engine"]
    y = x.sin()
    y.register_hook(lambda _: engine.queue_callback(hook))
    return y


PLACES: dict[str, Hook] = {
    "a leaf": _on_a_tensor("register_hook"),
    "an accumulated gradient": _on_a_tensor("register_post_accumulate_grad_hook"),
    "a tensor inside the graph": _inside,
    "all of several tensors": _on_several("all"),
    "any of several tensors": _on_several("any"),
    "a module": _on_a_module("register_full_backward_hook"),
    "a module, before": _on_a_module("register_full_backward_pre_hook"),
    "a node": _on_a_node("register_hook", torch.sin),
    "a node, before": _on_a_node("register_prehook", torch.sin),
    "a node in Python": _on_a_node("register_hook", _double),
    "a node in Python, before": _on_a_node("register_prehook", _double),
    "a saved tensor": _on_what_is_saved,
    "the end": _at_the_end,
}


# Of these torch.autograd.grad accumulates no gradient, and refuses to count gradients of leaves.
ONLY_BACKWARD = ("an accumulated gradient", "all of several tensors")


@pytest.mark.parametrize(
    ("place", "by"),
    [(p, by) for p in PLACES for by in ("backward", "grad") if by == "backward" or p not in ONLY_BACKWARD],
)
def test_a_hook_counts_a_mask_truly_and_the_mode_is_on_just_then(
    virtual_gpu: WarmMachines, place: str, by: str
) -> None:
    assert virtual_gpu("rtx-4090", _count_in_a_hook, place, by) == {
        "counts": [2],
        "modes_in_hook": [1],
        "modes_outside": [0],
        "modes_after": 1,
        "unknown_reads": 0,
    }


def _count_in_a_hook(place: str, by: str) -> dict[str, Any]:
    counts: list[int] = []
    modes_in_hook: list[int] = []
    modes_outside: set[int] = set()

    def hook(*_: object) -> None:
        modes_in_hook.append(_num_modes())
        counts.append(int(mask.logical_not().sum()))

    def outside(_: object) -> None:
        modes_outside.add(_num_modes())

    x = torch.zeros(5, device="cuda", requires_grad=True)
    x.register_hook(outside)  # before the mode, so that it is not watched
    with TrueValues() as values:
        mask = torch.tensor([True, False, True, False, True]).to("cuda")
        y = PLACES[place](x, hook).sum()
        if by == "grad":
            torch.autograd.grad(y, x)
        else:
            y.backward()
        return {
            "counts": counts,
            "modes_in_hook": modes_in_hook,
            "modes_outside": sorted(modes_outside),
            "modes_after": _num_modes(),
            "unknown_reads": values.unknown_reads.total,
        }


def _num_modes() -> int:
    return len(_get_current_dispatch_mode_stack())


def test_a_hooks_gradient_is_taken_and_a_removed_hook_does_not_run(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _change_gradients) == {
        "tensor": [3.0, 3.0],
        "node": [5.0, 5.0],
        "module": [7.0, 7.0],
        "unpacked": [20.0, 20.0],
        "removed": [2.0, 2.0],
    }


def _change_gradients() -> dict[str, list[float]]:
    """On tensors of the host, whose gradients are computed."""
    seen = {}
    with TrueValues():
        for name in ("tensor", "node", "module", "unpacked", "removed"):
            x = torch.ones(2, requires_grad=True)
            if name == "unpacked":
                with saved_tensors_hooks(lambda saved: saved.detach(), lambda saved: saved * 10):
                    y = x * x
            elif name == "module":
                layer: Any = torch.nn.Identity()
                layer.register_full_backward_hook(lambda _, gradients, __: (gradients[0] * 7,))
                y = layer(x)
            else:
                y = x + 0 if name != "removed" else x * 2
                handles = {
                    "tensor": lambda y: y.register_hook(lambda gradient: gradient * 3),
                    "node": lambda y: y.grad_fn.register_hook(lambda inputs, _: (inputs[0] * 5, None)),
                    "removed": lambda y: y.register_hook(lambda gradient: gradient * 9),
                }
                handle = handles[name](y)
                if name == "removed":
                    handle.remove()
            y.sum().backward()
            assert x.grad is not None
            seen[name] = x.grad.tolist()
    return seen


def test_hooks_outlive_the_mode_and_go_on_without_it(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _outlive) == {"inside": [1], "afterwards": [1, 0], "later": [1, 0, 0]}


def _outlive() -> dict[str, list[int]]:
    seen: list[int] = []
    x = torch.zeros(2, device="cuda", requires_grad=True)
    told = {}
    with TrueValues():
        x.register_hook(lambda _: seen.append(_num_modes()))
        x.sin().sum().backward()
        told["inside"] = list(seen)
    x.sin().sum().backward()
    told["afterwards"] = list(seen)
    with TrueValues():  # another one, to which the hook does not belong
        x.sin().sum().backward()
    return told | {"later": seen}


def test_hooks_are_followed_in_a_gradient_of_a_gradient(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _differentiate_twice) == [2, 2]


def _differentiate_twice() -> list[int]:
    counts: list[int] = []
    with TrueValues():
        mask = torch.tensor([True, False, True]).to("cuda")
        x = torch.zeros(3, device="cuda", requires_grad=True)
        y = x.sin()
        y.register_hook(lambda _: counts.append(int(mask.sum())))
        (gradient,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    return counts


def test_an_error_in_a_hook_leaves_the_mode_as_it_was(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _fail_in_a_hook) == ["the hook failed", 1, [2]]


def _fail_in_a_hook() -> list[Any]:
    counts: list[int] = []

    def fail(_: object) -> None:
        raise ValueError("the hook failed")

    with TrueValues():
        mask = torch.tensor([True, False, True]).to("cuda")
        x = torch.zeros(3, device="cuda", requires_grad=True)
        handle = x.register_hook(fail)
        try:
            x.sin().sum().backward()
        except ValueError as error:
            told = str(error)
        modes = _num_modes()
        handle.remove()
        x.register_hook(lambda _: counts.append(int(mask.sum())))
        x.sin().sum().backward()
        return [told, modes, counts]


def test_a_compiled_function_takes_hooks_as_ever(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _compile_with_hooks, True) == virtual_gpu(
        "rtx-4090", _compile_with_hooks, False
    )


def _compile_with_hooks(follows_values: bool) -> list[Any]:
    seen: list[list[int]] = []

    def block(x: torch.Tensor) -> torch.Tensor:
        y = x.sin()
        y.register_hook(lambda gradient: gradient * 2)
        return y.cos()

    with TrueValues() if follows_values else nullcontext():
        x = torch.ones(4, requires_grad=True)  # on the host, where it is computed
        x.register_hook(lambda gradient: seen.append(list(gradient.shape)))
        torch.compile(block, backend="aot_eager")(x).sum().backward()
        assert x.grad is not None
        first = x.grad.tolist()
        with save_on_cpu():
            torch.compile(torch.sin, backend="aot_eager")(x).sum().backward()
        return [first, x.grad.tolist(), seen]
