"""torch.compile while a dispatch mode follows values: compiled code is found again, and what was not is told.

Before torch knew of modes that compile, it made the guards of compiled code with every mode off. Asked with
one on, they find that tensors are dispatched otherwise: each call would compile anew, until torch gives up.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from profiler.virtual import torch_private as private
from profiler.virtual.kernels import told_of_imports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from profiler.virtual.torch_private import TorchDispatchMode


@contextmanager
def guards_with(mode: TorchDispatchMode) -> Iterator[None]:
    """While this lasts, guards of compiled code are made with `mode` on, as they will be asked."""
    if private.IGNORES_COMPILE.find_if_there() is not None:
        yield
        return
    push, pop = private.PUSH_MODE.find(), private.POP_MODE.find()

    with ExitStack() as patches:

        def watch(_module: ModuleType) -> None:
            make = private.MAKES_GUARDS.find()

            @wraps(make)
            def make_with_mode(*args: Any, **kwargs: Any) -> Any:
                push(mode)
                try:
                    return make(*args, **kwargs)
                finally:
                    pop()

            patches.enter_context(private.MAKES_GUARDS.replaced(make_with_mode))

        patches.enter_context(told_of_imports([private.MAKES_GUARDS.module], watch))
        yield


def compiles_nothing() -> bool:
    """Whether torch was to compile something in this process, and compiled none of it."""
    if not {private.COMPILING.module, private.COMPILED.module} <= sys.modules.keys():
        return False
    compiling, compiled = private.COMPILING.find_if_there(), private.COMPILED.find_if_there()
    return bool(compiling and compiling.seen and compiled is not None and not compiled["frames"]["ok"])
