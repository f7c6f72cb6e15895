"""Signals that ask to stop, and when they may not disturb: while what was started is being ended."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """A block in which signals that ask to stop can be ignored from some point on, to its end."""

    def __init__(self) -> None:
        """Changes nothing yet."""
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """The block begins."""
        return self

    def ignore(self) -> None:
        """From here on, ignore them. Python handles signals in its main thread; elsewhere none comes."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers.setdefault(number, signal.signal(number, signal.SIG_IGN))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """They are handled as before the block."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
