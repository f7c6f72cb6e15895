"""True values in every thread of a process: a dispatch mode is active only where it was entered."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

if TYPE_CHECKING:
    from torch.utils._python_dispatch import TorchDispatchMode


def enter_everywhere(mode: TorchDispatchMode) -> None:
    """Enter `mode` in this thread, and in each that is started from here on, as long as it runs."""
    mode.__enter__()
    bootstrap: Any = vars(threading.Thread)["_bootstrap_inner"]

    def bootstrap_with_mode(thread: threading.Thread) -> None:
        with mode:
            bootstrap(thread)

    setattr(threading.Thread, "_bootstrap_inner", bootstrap_with_mode)  # noqa: B010 - private, not in stubs


def leave(mode: TorchDispatchMode) -> None:
    """Leave `mode` in this thread, for good: the interpreter takes itself down without it."""
    if _get_current_dispatch_mode_stack() == [mode]:
        mode.__exit__(None, None, None)
