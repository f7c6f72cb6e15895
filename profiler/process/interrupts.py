"""Signals that ask to stop, and when they may not disturb: while what was started is being ended."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts(ExitStack):
    """A block in which signals that ask to stop can be ignored from some point on, to its end."""

    def ignore(self) -> None:
        """From here on, ignore them. Python handles signals in its main thread; elsewhere none comes."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
