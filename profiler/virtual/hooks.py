"""What the autograd engine calls back in Python: with a dispatch mode on, as forward code runs.

Hooks are seen as they are registered, which for every kind of them happens in Python: those of nodes that are
written in C++ go through a function of Python too.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.checkpoint
from torch.autograd.function import BackwardCFunction

from profiler.virtual import torch_private as private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from profiler.virtual.torch_private import TorchDispatchMode

    Hook = Callable[..., Any]

_current_mode = private.CURRENT_MODE.find()
_not_compiled: Callable[[Hook], Hook] = private.NOT_COMPILED.find()


class Switch:
    """A hook of ours that turns the mode on or off for a node: the one hook that does not run with it on."""

    def __init__(self, mode: TorchDispatchMode, *, is_on: bool) -> None:
        """Turns `mode` on as the hook is called, or off."""
        self._mode = mode
        self._is_on = is_on

    def __call__(self, *_gradients: object) -> None:
        """Turn it."""
        if self._is_on:
            self._mode.__enter__()
        else:
            self._mode.__exit__(None, None, None)


@contextmanager
def watched_callbacks(mode: TorchDispatchMode) -> Iterator[None]:
    """While this lasts, the engine's callbacks run with `mode` on: hooks, and backwards written in Python.

    A hook runs with it on if it was registered in this time.
    """
    is_over = False

    def watch(function: Hook) -> Hook:
        if isinstance(function, Switch) or _is_of_checkpoint(function):
            return function

        @functools.wraps(function)  # torch asks hooks for marks that they carry
        def run(*args: Any, **kwargs: Any) -> Any:
            if is_over or _current_mode() is not None:  # it is on already, or torch is compiling
                return function(*args, **kwargs)
            with mode:
                return function(*args, **kwargs)

        return run

    with ExitStack() as patches:
        for patch in _patches(watch, mode):
            patches.enter_context(patch)
        try:
            yield
        finally:
            is_over = True


def _is_of_checkpoint(hook: Hook) -> bool:
    """Whether a checkpoint has made it: one for every tensor it saves; what it recomputes is watched."""
    return getattr(hook, "__module__", None) == torch.utils.checkpoint.__name__


def _patches(
    watch: Callable[[Hook], Hook], mode: TorchDispatchMode
) -> Iterator[AbstractContextManager[None]]:
    """What stands for torch's own meanwhile: backward functions, and registrations of hooks."""
    yield private.RECOMPUTATION_HOOK.replaced(_watched_recomputation(mode))
    yield private.replaced(BackwardCFunction, "apply", watch(BackwardCFunction.apply))
    if hasattr(BackwardCFunction, "apply_boxed"):  # since torch 2.14
        yield private.replaced(BackwardCFunction, "apply_boxed", watch(BackwardCFunction.apply_boxed))
    for name in ("register_hook", "register_post_accumulate_grad_hook"):
        yield private.replaced(torch.Tensor, name, _last_watched(getattr(torch.Tensor, name), watch))
    # Of nodes, and so of modules; of saved tensors; at the end of the pass.
    yield private.NODE_HOOKS.replaced(staticmethod(_last_watched(private.NODE_HOOKS.find(), watch)))
    yield private.SAVED_HOOKS.replaced(_last_watched(private.SAVED_HOOKS.find(), watch))
    yield private.ENGINE.replaced(_engine(watch))


def _watched_recomputation(mode: TorchDispatchMode) -> type[Any]:
    """The hook around what a checkpoint recomputes, with the mode on."""
    hook: type[Any] = private.RECOMPUTATION_HOOK.find()

    class Watched(hook):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.pack_hook: Hook = _unwatched(self.pack_hook, mode)

        def __enter__(self) -> None:
            mode.__enter__()
            super().__enter__()

        def __exit__(self, *exception: object) -> None:
            super().__exit__(*exception)
            mode.__exit__(*exception)

    return Watched


def _unwatched(pack: Hook, mode: TorchDispatchMode) -> Hook:
    """The hook without the mode on: it detaches each tensor that is saved, which changes no value."""
    pop_mode, push_mode = private.POP_MODE.find(), private.PUSH_MODE.find()

    @functools.wraps(pack)
    def run(tensor: torch.Tensor) -> Any:
        if _current_mode() is not mode:
            return pack(tensor)
        pop_mode()
        try:
            return pack(tensor)
        finally:
            push_mode(mode)

    return run


def _last_watched(register: Callable[..., Any], watch: Callable[[Hook], Hook]) -> Callable[..., Any]:
    """The same registration, with the hook, which is its last argument, watched."""

    @functools.wraps(register)
    def run(*args: Any, **kwargs: Any) -> Any:
        if args and callable(args[-1]):
            return register(*args[:-1], watch(args[-1]), **kwargs)
        return register(*args, **{name: watch(hook) for name, hook in kwargs.items()})

    # torch.compile does not look into torch's own registration either
    return _not_compiled(run)


def _engine(watch: Callable[[Hook], Hook]) -> Any:
    """An engine of torch's kind that watches what is to be called at the end of a pass."""
    kind: type[Any] = type(private.ENGINE.find())

    class Engine(kind):  # type: ignore[misc]
        def queue_callback(self, callback: Hook) -> None:
            super().queue_callback(watch(callback))

    return Engine()
