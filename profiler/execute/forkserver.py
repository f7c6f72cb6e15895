"""A process that imports the libraries once and then forks a child for each job.

Importing takes longer than most jobs. A child starts from the same memory as every other, has never spoken to
CUDA, and makes a CUDA context of its own, so nothing passes from job to job.

It reads a line of JSON a job from stdin (`directory`, `variables`) and tells on stdout, a line
each, that it is ready, that a job has started (its process id) and that one has ended (its exit code,
negative for a signal). When stdin ends, the parent is gone: its jobs are ended, and what is left of them and
of the pool is removed. When the fork server dies, its children die with it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.process.children import kill_group, signal_at_end_of
from profiler.process.faults import FAULT_EXIT_CODE, machine_fault, note_end
from profiler.process.protocol import STDERR
from profiler.process.scratch import remove
from profiler.virtual.state import STATE_VARIABLE
from profiler.virtual.torch_private import IN_BAD_FORK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CAPABILITY_VARIABLE = "PEAKVRAM_COMPUTE_CAPABILITY"
"""The card's compute capability ("8.9"): bitsandbytes asks for it when it is imported."""
FAMILIES_VARIABLE = "PEAKVRAM_MODEL_FAMILIES"
"""transformers' model types to import beforehand, comma-separated."""

_Children = dict[int, tuple[int, str]]  # by pidfd: the process id, and the job's directory


def main(*directories: str, parent: int) -> None:
    """Import, then serve until stdin ends.

    Args:
        directories: of the pool and its jobs, to be removed if the parent is gone and cannot do it.
        parent: the process to serve.
    """
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _leave_with_parent(parent, directories)
    _import_libraries()
    gc.collect()
    gc.freeze()  # the children share this memory until they write to it; the collector would touch all of it
    _stay(parent)
    children: _Children = {}
    with suppress(BrokenPipeError):  # the parent has gone while it was told something
        _tell(answers, event="ready")
        _serve(answers, children)
    _end(children)
    _remove(directories)


def _leave_with_parent(parent: int, directories: Sequence[str]) -> None:
    """Until `_stay`: end when the parent does. Imports take seconds, in which stdin is not looked at."""

    def leave(number: int, _frame: object) -> None:
        is_parent_there = os.getppid() == parent
        if is_parent_there:  # the directories are its own, and this signal is somebody else's
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        _remove(directories)
        os._exit(1)

    signal.signal(signal.SIGTERM, leave)
    if not signal_at_end_of(parent, signal.SIGTERM):
        leave(signal.SIGTERM, None)


def _stay(parent: int) -> None:
    """From now on stdin tells of the parent's end; jobs end by signals as any program does.

    Python's own answer to SIGINT is an exception, which would pass for an error of the job.
    """
    signal_at_end_of(parent, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _import_libraries() -> None:
    """Import what jobs use without a word to the CUDA runtime, which would make children unfit for CUDA."""
    import torch  # noqa: PLC0415 - in this order, and not by whoever imports this module

    major, minor = map(int, os.environ[CAPABILITY_VARIABLE].split("."))
    ask = torch.cuda.get_device_capability
    # bitsandbytes asks at import, to choose among its libraries; the parent knows the answer without CUDA.
    torch.cuda.get_device_capability = lambda device=None: (major, minor)  # noqa: ARG005 - as torch has it
    try:
        import bitsandbytes  # noqa: F401, PLC0415
    finally:
        torch.cuda.get_device_capability = ask
    import profiler.execute.worker  # noqa: F401, PLC0415

    for family in filter(None, os.environ.get(FAMILIES_VARIABLE, "").split(",")):
        with suppress(ModuleNotFoundError):  # named otherwise: each job imports it
            importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    if torch.cuda.is_initialized() or IN_BAD_FORK.find()():
        raise RuntimeError("an import initialised CUDA: jobs cannot be forked from this process")


def _serve(answers: Any, children: _Children) -> None:
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    unread = b""
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                received = os.read(0, 1 << 16)
                if not received:
                    return
                *lines, unread = (unread + received).split(b"\n")
                for line in lines:
                    job = json.loads(line)
                    pidfd, pid = _start(job)
                    children[pidfd] = (pid, job["directory"])
                    selector.register(pidfd, selectors.EVENT_READ)
                    _tell(answers, event="started", directory=job["directory"], pid=pid)
            else:
                pid, directory = children.pop(key.fd)
                selector.unregister(key.fd)
                os.close(key.fd)
                kill_group(pid)  # what it has started; its own number is not free before it is waited for
                code = note_end(pid, Path(directory) / STDERR)
                os.waitpid(pid, 0)
                _tell(answers, event="ended", directory=directory, exit_code=code)


def _start(job: dict[str, Any]) -> tuple[int, int]:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _run(Path(job["directory"]), job["variables"], parent=parent)
        except BaseException as error:  # it must not go on as a second fork server
            traceback.print_exc()
            code = FAULT_EXIT_CODE if machine_fault(error) else code
        finally:
            os._exit(code)
    with suppress(OSError):  # done here and there: whoever is told of the job can kill it with all it starts
        os.setpgid(pid, pid)
    return os.pidfd_open(pid), pid


def _run(directory: Path, variables: Mapping[str, str], *, parent: int) -> None:
    """Be the worker of one job; does not return unless it fails."""
    os.setpgid(0, 0)
    with (directory / STDERR).open("wb") as stderr:
        os.dup2(stderr.fileno(), 1)
        os.dup2(stderr.fileno(), 2)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None  # it is kept from before the fork
    if STATE_VARIABLE in variables:
        attach = ctypes.CDLL(None).vgpu_attach
        attach.argtypes = (ctypes.c_char_p,)
        attach(variables[STATE_VARIABLE].encode())
    from profiler.execute.worker import run_process  # noqa: PLC0415 - imported before the fork

    run_process(str(directory), parent=parent)


def _end(children: _Children) -> None:
    for pid, _ in children.values():
        kill_group(pid)
        os.waitpid(pid, 0)


def _remove(directories: Sequence[str]) -> None:
    for directory in directories:
        remove(Path(directory))


def _tell(answers: Any, **event: object) -> None:
    answers.write(json.dumps(event) + "\n")
