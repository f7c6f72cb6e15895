"""Commands that are started to be hurt: as a user starts them, or as forks of a process that imported all.

A fork goes through the same `main` and the same code as the command proper, but its imports are there. What
peakvram starts then, the fork server and the workers, is forked in turn and not executed. Half a second in
place of ten: that is what makes many faults possible.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from profiler.virtual.state import STATE_VARIABLE
from tests.builders import ROOT
from tests.faults.disks import HOME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_POLL_S = 0.01
_MAX_FILES = 1 << 16
HUNG = "hung"


@dataclass
class Command:
    """A command that was started.

    Attributes:
        pid: its process.
        output: where its stdout and stderr go.
    """

    pid: int
    output: Path
    _exit_code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None as long as it runs."""
        if self._exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._exit_code = os.waitstatus_to_exitcode(status) if pid else None
        return self._exit_code

    def wait(self, limit_s: float) -> int | str:
        """Its exit code; `HUNG` where it does not end, and is killed."""
        deadline_s = time.monotonic() + limit_s
        while (code := self.poll()) is None:
            if time.monotonic() > deadline_s:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return HUNG
            time.sleep(_POLL_S)
        return code

    @property
    def told(self) -> str:
        """What it wrote."""
        return self.output.read_text(errors="replace")


def start(arguments: Sequence[str], output: Path, *, is_warm: bool = True) -> Command:
    """Start `peakvram` with these arguments.

    Args:
        arguments: of the command line.
        output: receives all that it writes.
        is_warm: whether as a fork of this process; else as a user does.
    """
    pid = os.fork()
    if pid == 0:
        _become(arguments, output, is_warm=is_warm)
    return Command(pid=pid, output=output)


def import_all() -> None:
    """What commands and workers import, so that forks need not."""
    from tests.virtual.warm import import_libraries

    import_libraries()
    from profiler.cli.app import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"profiler.cli.{name}")
    for name in ("schedule", "local", "forkserver", "pool"):
        importlib.import_module(f"profiler.execute.{name}")
    for name in ("follow.command", "explain.run", "explain.effects", "report.terminal.exec"):
        importlib.import_module(f"profiler.{name}")
    for name in ("peft.tuners.lora.bnb", "peft.utils.transformers_weight_conversion"):
        importlib.import_module(name)
    with suppress(ImportError, AttributeError):  # what every job of these transformers works out for itself
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("llama")


def variables() -> dict[str, str]:
    """The environment of a command, with nothing of what this process is preloaded with."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL"}}
    # torch makes a directory for compiled code as soon as there is an optimizer: it is not ours.
    torchs = {"TORCHINDUCTOR_CACHE_DIR": str(HOME / "home" / "inductor")}
    return kept | torchs | {"HOME": str(HOME / "home"), "HF_HUB_OFFLINE": "1"}


def _become(arguments: Sequence[str], output: Path, *, is_warm: bool) -> NoReturn:
    try:
        os.setsid()
        os.chdir(HOME)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        _take_over(variables(), os.open(os.devnull, os.O_RDONLY), descriptor, descriptor)
        if not is_warm:
            os.environ["PYTHONPATH"] = str(ROOT)
            os.execve(sys.executable, [sys.executable, "-m", "profiler", *arguments], dict(os.environ))
        _start_forked_processes()
        sys.argv = ["peakvram", *arguments]
        from profiler.__main__ import main

        main()
    except SystemExit as asked:
        _leave(asked.code if isinstance(asked.code, int) else 1)
    except BaseException:
        traceback.print_exc()
    _leave(1)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _take_over(environ: Mapping[str, str], stdin: int, stdout: int, stderr: int) -> None:
    """Be in this fork what a program is when it has just been executed."""
    os.environ.clear()
    os.environ.update(environ)
    for target, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, target)
    os.closerange(3, _MAX_FILES)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = sys.__unraisablehook__
    tempfile.tempdir = None


def _start_forked_processes() -> None:
    """Have the fork server and the workers of this command forked in place of executed."""
    from profiler.execute import local, pool

    for module in (local, pool):
        parts = SimpleNamespace(**vars(subprocess) | {"Popen": ForkedProcess})
        module.subprocess = parts  # type: ignore[attr-defined]


class ForkedProcess(subprocess.Popen[bytes]):
    """A process of peakvram's own: forked from this one, and then in the same place as an executed one."""

    def _execute_child(self, args: list[str], *others: Any) -> None:
        names = ["executable", "preexec", "close", "pass", "cwd", "env", "startup", "flags", "shell"]
        given = dict(zip(names, others[: len(names)], strict=True))
        pipes = others[len(names) : len(names) + 6]
        stdin, _, _, stdout, _, stderr = pipes
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                self._be_program(args, given["env"], stdin, stdout, stderr)
            except KeyboardInterrupt:  # as Python ends a program
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.raise_signal(signal.SIGINT)
            except BaseException:
                traceback.print_exc()
            _leave(1)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _be_program(
        self, args: list[str], env: Mapping[str, str], stdin: int, stdout: int, stderr: int
    ) -> NoReturn:
        self._child_created = False  # it is not for the child to wait for itself
        _take_over(env, stdin, stdout, stderr)
        faulthandler.enable()
        if STATE_VARIABLE in env:
            ctypes.CDLL(None).vgpu_attach(env[STATE_VARIABLE].encode())
        code = args[args.index("-c") + 1]
        sys.argv = ["-c", *args[args.index("-c") + 2 :]]
        exec(code, {"__name__": "__main__"})
        _leave(0)
