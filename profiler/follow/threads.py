"""True values in every thread of a process: a dispatch mode is active only where it was entered."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

from profiler.virtual.torch_private import MODE_STACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.virtual.torch_private import TorchDispatchMode


def enter_everywhere(mode: TorchDispatchMode) -> None:
    """Enter `mode` in this thread, and in each that is started from here on, as long as it runs."""
    mode.__enter__()
    bootstrap: Any = vars(threading.Thread)["_bootstrap_inner"]

    def bootstrap_with_mode(thread: threading.Thread) -> None:
        with mode:
            bootstrap(thread)

    setattr(threading.Thread, "_bootstrap_inner", bootstrap_with_mode)  # noqa: B010 - private, not in stubs
    start = _thread.start_new_thread  # `threading` has taken hold of it before us

    def start_with_mode(function: Callable[..., object], *arguments: Any) -> int:
        def run(*args: Any, **kwargs: Any) -> None:
            with mode:
                function(*args, **kwargs)

        return start(run, *arguments)

    _thread.start_new_thread = _thread.start_new = start_with_mode


def leave(mode: TorchDispatchMode) -> None:
    """Leave `mode` in this thread, for good: the interpreter takes itself down without it."""
    if MODE_STACK.find()() == [mode]:
        mode.__exit__(None, None, None)
