"""The command `peakvram`, and `python -m profiler`: whatever moment a signal comes at, it ends in one line.

Only the standard library's smallest parts are imported before the signals are looked after; all else follows.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress

TYPE_CHECKING = False  # importing `typing` takes as long as all else here
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

_AGAIN_S = 0.05
_UNFIT = 3
# What is told where not even the module can be imported that knows all of them.
_FAULTS = {
    errno.EMFILE: "raise the limit: ulimit -n",
    errno.ENFILE: "end other processes",
    errno.ENOMEM: "end other processes, or raise the limit: ulimit -v",
    errno.EIO: "the disk or its mount needs looking after",
}


class _Signals:
    """What a signal that asks to stop does.

    While a command runs it raises an exception, so that what was started is ended and its files are removed.
    Before and after that nothing is there to be ended, and imports may swallow an exception: it ends at once.
    """

    is_running = False
    raised = 0

    def __init__(self) -> None:
        known = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        defaults = (signal.SIG_DFL, signal.default_int_handler)
        self._numbers = [number for number in known if signal.getsignal(number) in defaults]

    def listen(self) -> None:
        """Look after the signals that are not ignored; `nohup` has SIGHUP ignored, `&` of a script SIGINT."""
        for number in self._numbers:
            signal.signal(number, self._leave)
        sys.unraisablehook = self._raise_again

    def ignore(self) -> None:
        """All is done but the end of the interpreter, in which a signal would be nobody's to tell of."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)

    def _leave(self, number: int, _frame: FrameType | None) -> NoReturn:
        if not self.is_running:
            _say(number)
            os._exit(128 + number)
        self.raised = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _raise_again(self, lost: sys.UnraisableHookArgs) -> None:
        """What was raised where Python raises nothing, as in a callback, is raised a moment later."""
        if not issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
            sys.__unraisablehook__(lost)
            return
        import threading  # noqa: PLC0415 - not before the signals are looked after

        code = getattr(lost.exc_value, "code", None)
        number = code - 128 if isinstance(code, int) and code > 128 else signal.SIGINT
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


def main() -> NoReturn:
    """Runs the command line and leaves with its exit code; 128 and the number of a signal that ended it."""
    signals = _Signals()
    signals.listen()
    code: object
    try:
        run_command = _load_commands()
        signals.is_running = True
        code = run_command(sys.argv[1:])
        signals.is_running = False
    except KeyboardInterrupt:
        signals.is_running = False
        code = 128 + signal.SIGINT
        _say(signal.SIGINT)
    except SystemExit as asked:
        signals.is_running = False
        code = asked.code
        if code in (128 + signal.SIGTERM, 128 + signal.SIGHUP):
            _say(int(code) - 128)
    except Exception:
        # A library written in another language may make an error of its own of what was raised in its midst.
        signals.is_running = False
        if not signals.raised:
            raise
        code = 128 + signals.raised
        _say(signals.raised)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):  # nobody reads it: Python says so as it ends
            stream.flush()
    signals.ignore()
    sys.exit(code if isinstance(code, int) else 1)


def _load_commands() -> Callable[[list[str]], int]:
    """The commands, which are not imported before the signals are looked after."""
    try:
        from profiler.cli.app import run_command  # noqa: PLC0415
    except (ImportError, OSError) as error:
        fault = next((number for number in _FAULTS if os.strerror(number) in str(error)), None)
        if fault is None:
            raise
        told = f"error: peakvram cannot be loaded: {os.strerror(fault).lower()}\nhint: {_FAULTS[fault]}\n"
        with suppress(OSError):  # nobody reads it
            os.write(2, told.encode())
        raise SystemExit(_UNFIT) from None
    return run_command


def _say(number: int) -> None:
    said = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    with suppress(OSError):  # nobody reads it
        os.write(2, f"error: {said}\n".encode())


if __name__ == "__main__":
    main()
