"""Warm workers: one process that has imported the libraries, from which a child is forked for every job."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict

from profiler.errors import EnvironmentUnfitError
from profiler.execute.environment import worker_variables
from profiler.execute.nursery import CAPABILITY_VARIABLE, FAMILIES_VARIABLE
from profiler.hardware.catalogue import Gpu
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from profiler.execute.prepare import Workplace
    from profiler.hardware.nvml import RealGpu

_START_LIMIT_S = 300.0
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# Not `-m`, so that nothing in the working directory stands in for a module.
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from profiler.execute.nursery import main; main()"


class Answer(BaseModel):
    """What the nursery tells: that it is ready, that a job started, that one ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: Literal["ready", "started", "ended"]
    directory: str = ""
    pid: int = 0
    exit_code: int = 0


@dataclass(slots=True)
class _Running:
    pid: int | None = None  # not known until the nursery has told


class NurseryDiedError(EnvironmentUnfitError):
    """The process that jobs are forked from is gone, and with it every job that ran."""


class Pool:
    """One nursery and its running jobs.

    A real card and a virtual one need different nurseries: a virtual one's libraries are found first.
    """

    def __init__(self, gpu: Gpu | RealGpu, *, families: Iterable[str] = ()) -> None:
        """Prepares a pool for cards of this kind.

        Args:
            gpu: a card that jobs will run on; another of its kind may serve each job.
            families: transformers' model types to import beforehand.
        """
        self._gpu = gpu
        self._families = tuple(families)
        self._open = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._running: dict[str, _Running] = {}
        self._unread = b""
        self._selector = selectors.DefaultSelector()

    def start(self) -> Self:
        """Start the nursery and wait until it has imported everything.

        Raises:
            EnvironmentUnfitError: it cannot start; the message carries its last words.
        """
        with ExitStack() as opening:
            directory = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="peakvram-")))
            log = directory / "stderr.txt"
            self._process = process = self._start(directory, log)
            opening.callback(self._end)
            assert process.stdout is not None
            self._selector.register(process.stdout, selectors.EVENT_READ)
            if not self._is_ready():
                words = log.read_text(errors="replace").strip().splitlines()
                raise EnvironmentUnfitError(
                    f"the workers cannot start: {words[-1] if words else 'no answer'}",
                    hint="`peakvram doctor` shows what is amiss",
                )
            self._open = opening.pop_all()
        return self

    def close(self) -> None:
        """End every job that runs, and the nursery."""
        self._open.close()

    def submit(self, workplace: Workplace) -> None:
        """Start a job in its workplace.

        Raises:
            NurseryDiedError: nobody is there to start it.
        """
        order = {
            "directory": str(workplace.directory),
            "variables": workplace.variables,
            "scratch": workplace.request.scratch,
        }
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise NurseryDiedError("the process that jobs are forked from is gone") from error
        self._running[str(workplace.directory)] = _Running()

    def kill(self, directory: Path) -> None:
        """Kill a job with all that it has started; its end is told like any other's."""
        running = self._running.get(str(directory))
        if running is not None and running.pid is not None:
            _kill_group(running.pid)

    def wait(self, timeout_s: float | None) -> Iterator[Answer]:
        """What has happened, within the time given; nothing if nothing has.

        Raises:
            NurseryDiedError: the nursery is gone.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        if not self._selector.select(timeout_s):
            return
        received = os.read(self._process.stdout.fileno(), 1 << 16)
        if not received:
            raise NurseryDiedError("the process that jobs are forked from is gone")
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            answer = Answer.model_validate_json(line)
            if answer.event == "started":
                self._running[answer.directory].pid = answer.pid
            elif answer.event == "ended":
                del self._running[answer.directory]
            yield answer

    def _is_ready(self) -> bool:
        try:
            return any(answer.event == "ready" for answer in self.wait(_START_LIMIT_S))
        except NurseryDiedError:
            return False

    def _start(self, directory: Path, log: Path) -> subprocess.Popen[bytes]:
        is_virtual = isinstance(self._gpu, Gpu)
        variables = worker_variables(os.environ, alloc_conf="", is_virtual=is_virtual)
        if isinstance(self._gpu, Gpu):
            machine = directory / "machine"
            machine.mkdir()
            variables = launch_machine(machine, self._gpu).environment(variables)
        variables |= {
            CAPABILITY_VARIABLE: ".".join(map(str, self._gpu.compute_capability)),
            FAMILIES_VARIABLE: ",".join(self._families),
            # Asking the runtime for its devices would make children unfit for CUDA: NVML is asked instead.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            "OPENBLAS_NUM_THREADS": "1",  # threads do not survive a fork
        }
        with log.open("wb") as stderr:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(_PACKAGE_ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=variables,
                start_new_session=True,  # a Ctrl-C at the terminal is for the parent alone
            )

    def _end(self) -> None:
        assert self._process is not None
        for running in self._running.values():
            if running.pid is not None:
                _kill_group(running.pid)
        self._running.clear()
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has just ended by itself
