"""Processes of ours: how one is started, how it notices that its parent has gone, how it is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

from profiler.resources import PACKAGE_ROOT

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Not `-m`: with it a `random.py` in the directory the command is called from would stand in for Python's own.
# For the same reason the package's root, which is needed where it is not installed, comes last.
_PROGRAM = """
import sys
sys.path.append(sys.argv[1])
from {module} import {function}
{function}(*sys.argv[3:], parent=int(sys.argv[2]))
"""


def call_in_new_python(module: str, function: str, *arguments: str) -> list[str]:
    """The command that calls a function in a fresh interpreter, as `function(*arguments, parent=...)`.

    Args:
        module: of the function, imported there alone: it may need torch.
        function: takes texts, and the id of this process as `parent`.
        arguments: its texts, the last words of the command.
    """
    program = _PROGRAM.format(module=module, function=function)
    return [sys.executable, "-P", "-c", program, str(PACKAGE_ROOT), str(os.getpid()), *arguments]


def signal_at_end_of(parent: int, number: int) -> bool:
    """Have the kernel send this process a signal once its parent is gone. False if it went before."""
    if sys.platform != "linux":
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def kill_group(pid: int) -> None:
    """Kill a leader of a group with all that it has started."""
    with suppress(ProcessLookupError):  # it has just ended by itself, or never led a group
        os.killpg(pid, signal.SIGKILL)
