"""Who ends a command and removes its files where the run that follows it is killed, and cannot."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

from profiler.follow.processes import end_processes
from profiler.process.children import call_in_new_python
from profiler.process.scratch import remove

_GRACE_S = 10.0


class Guard(ExitStack):
    """A process that waits for the end of this one, until the block is left.

    A command whose run was killed with SIGKILL would go on, unfollowed and for nobody.
    """

    def __init__(self, directory: Path) -> None:
        """Starts it.

        Args:
            directory: of the run, which its processes are known by; removed if this process is killed.
        """
        super().__init__()
        process = subprocess.Popen(
            call_in_new_python(__name__, keep_watch.__name__, str(directory)),
            stdin=subprocess.PIPE,  # whose end tells it of ours, however we end
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is not for it
        )
        self.enter_context(process)
        self.callback(process.kill)


def keep_watch(directory: str, *, parent: int) -> None:
    """Wait for the end of the parent, which kills this process where it can still do the rest itself."""
    del parent  # its pipe tells of it
    while os.read(0, 1):
        pass
    end_processes(Path(directory), grace_s=_GRACE_S)
    remove(Path(directory))
