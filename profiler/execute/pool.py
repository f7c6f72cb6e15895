"""Warm workers: one process that has imported the libraries, from which a child is forked for every job."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from profiler.errors import EnvironmentUnfitError
from profiler.execute.forkserver import CAPABILITY_VARIABLE, FAMILIES_VARIABLE, main
from profiler.execute.prepare import Rooms, Workplace, undone_on_error
from profiler.hardware.catalogue import Gpu
from profiler.process.children import call_in_new_python, kill_group
from profiler.process.environment import worker_variables
from profiler.values import Value
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from profiler.execute.prepare import PreparedJob
    from profiler.hardware.nvml import RealGpu

_START_LIMIT_S = 300.0
_END_LIMIT_S = 10.0


class Answer(Value):
    """What the fork server tells: that it is ready, that a job started, that one ended."""

    event: Literal["ready", "started", "ended"]
    directory: str = ""
    pid: int = 0
    exit_code: int = 0


@dataclass(slots=True)
class _Child:
    pid: int | None = None  # not known until the fork server has told
    is_doomed: bool = False  # to be killed as soon as it is


class ForkServerError(EnvironmentUnfitError):
    """The process that jobs are forked from cannot do its work: no job of its kind can run."""


class ForkServerDiedError(ForkServerError):
    """The process that jobs are forked from was killed, and with it every job that ran."""


class Pool(ExitStack):
    """One fork server and its running jobs, all of which `close` ends.

    A real card and a virtual one need different fork servers: a virtual one's libraries are found first.

    Attributes:
        num_ended: jobs that have run to their end, however they ended.
    """

    def __init__(self, gpu: Gpu | RealGpu, *, families: Iterable[str] = ()) -> None:
        """Starts the fork server and waits until it has imported everything.

        Args:
            gpu: a card that jobs will run on; another of its kind may serve each job.
            families: transformers' model types to import beforehand.

        Raises:
            ForkServerDiedError: it was killed while it started.
            ForkServerError: it cannot start; the message carries its last words.
            EnvironmentUnfitError: a virtual GPU cannot work here, or there is no room for its files.
        """
        super().__init__()
        self._children: dict[str, _Child] = {}
        self.num_ended = 0
        self._unread = b""
        self._selector = selectors.DefaultSelector()
        with undone_on_error(self):
            self._rooms = self.enter_context(Rooms(gpu))
            log = self._rooms.directory / "stderr.txt"
            self._process = _start(gpu, families, self._rooms, log)
            self.callback(self._end)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._orders, self._answers = self._process.stdin, self._process.stdout
            self._selector.register(self._answers, selectors.EVENT_READ)
            if not self._is_ready():
                raise self._why_not(log)

    def workplace(self, job: PreparedJob) -> Workplace:
        """Directories for a job; gone with the pool at the latest.

        Raises:
            EnvironmentUnfitError: there is no room for them.
        """
        return Workplace(job, rooms=self._rooms)

    def submit(self, workplace: Workplace) -> None:
        """Start a job in its workplace; if nobody is there to do so, `wait` will tell."""
        order = {"directory": str(workplace.directory), "variables": workplace.variables}
        self._children[str(workplace.directory)] = _Child()
        with suppress(BrokenPipeError):
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()

    def has_started(self, directory: Path) -> bool:
        """Whether a job that was submitted, and has not ended, has begun."""
        return self._children[str(directory)].pid is not None

    def kill(self, directory: Path) -> None:
        """Kill a job with all that it has started; its end is told like any other's."""
        child = self._children.get(str(directory))
        if child is None:
            return
        child.is_doomed = True
        if child.pid is not None:
            kill_group(child.pid)

    def wait(self, timeout_s: float | None) -> Iterator[Answer]:
        """What has happened, within the time given; nothing if nothing has.

        Raises:
            ForkServerDiedError: the fork server is gone.
        """
        if not self._selector.select(timeout_s):
            return
        received = os.read(self._answers.fileno(), 1 << 16)
        if not received:
            raise ForkServerDiedError("the process that jobs are forked from is gone")
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            answer = Answer.model_validate_json(line)
            self._note(answer)
            yield answer

    def _note(self, answer: Answer) -> None:
        if answer.event == "started":
            child = self._children[answer.directory]
            child.pid = answer.pid
            if child.is_doomed:
                kill_group(answer.pid)
        elif answer.event == "ended":
            del self._children[answer.directory]
            self.num_ended += 1

    def _is_ready(self) -> bool:
        try:
            return any(answer.event == "ready" for answer in self.wait(_START_LIMIT_S))
        except ForkServerDiedError:
            return False

    def _why_not(self, log: Path) -> ForkServerError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_LIMIT_S)
        code = self._process.returncode
        words = _words(log)
        if code is not None and code < 0:
            return ForkServerDiedError(
                f"the workers cannot start: {signal.Signals(-code).name} ended them",
                hint="the host may be short of memory",
            )
        return ForkServerError(
            f"the workers cannot start: {words[-1] if words else 'no answer'}",
            hint="`peakvram doctor` shows what is amiss",
        )

    def _end(self) -> None:
        for child in self._children.values():
            if child.pid is not None:
                kill_group(child.pid)
        self._children.clear()
        self._process.kill()
        self._process.wait()
        self._wait_for_jobs()
        self._selector.close()
        for pipe in (self._orders, self._answers):
            with suppress(BrokenPipeError):  # an order that was not taken any more
                pipe.close()

    def _wait_for_jobs(self) -> None:
        """Each holds the server's stdout: when it ends, all are gone, and nothing writes to a directory."""
        deadline_s = time.monotonic() + _END_LIMIT_S
        while self._selector.select(max(0.0, deadline_s - time.monotonic())):
            if not os.read(self._answers.fileno(), 1 << 16):
                return


def _words(log: Path) -> list[str]:
    with suppress(OSError):  # what has ended the fork server may have taken its words as well
        return log.read_text(errors="replace").strip().splitlines()
    return []


def _start(gpu: Gpu | RealGpu, families: Iterable[str], rooms: Rooms, log: Path) -> subprocess.Popen[bytes]:
    is_virtual = isinstance(gpu, Gpu)
    variables = worker_variables(os.environ, alloc_conf="", is_virtual=is_virtual)
    if isinstance(gpu, Gpu):
        variables = launch_machine(rooms.directory / "machine", gpu).environment(variables)
    temporary = rooms.directory / "tmp"
    temporary.mkdir()
    variables |= {
        "TMPDIR": str(temporary),  # what libraries make when they are imported goes with the rest
        CAPABILITY_VARIABLE: ".".join(map(str, gpu.compute_capability)),
        FAMILIES_VARIABLE: ",".join(families),
        # Asking the runtime for its devices would make children unfit for CUDA: NVML is asked instead.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "OPENBLAS_NUM_THREADS": "1",  # threads do not survive a fork
    }
    with log.open("wb") as stderr:
        return subprocess.Popen(
            call_in_new_python(main.__module__, main.__name__, *rooms.paths),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=variables,
            start_new_session=True,  # a Ctrl-C at the terminal is for the parent alone
        )
