"""A worker that makes its job's model once, and trains it with one batch after another.

Each batch is trained in a process that is forked once all is made: from there on it is the worker of a job
with that batch, whose allocator has seen what such a job's has. On a virtual card a process may be forked so,
as long as no backward pass has started autograd's threads.

Orders come on stdin, a line of JSON each (`directory`, `batch_size`, `seq_len`, `steps`); answers go to
stdout: a line when the model is ready, and one for each directory whose process has ended, with its exit
code. When stdin ends, so does the worker, and with it what it has forked.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from profiler.execute.worker import Worker, apply_alloc_conf
from profiler.measure.device import ExactMeter
from profiler.process.children import signal_at_end_of
from profiler.process.protocol import REQUEST, STDERR, Request
from profiler.virtual.state import STATE_VARIABLE, open_state, set_architectures
from profiler.virtual.torch_private import IN_BAD_FORK

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec


_CHANGED = ("batch_size", "seq_len", "steps")


class _Batches:
    """Waits for orders where a job would begin its first step; in a forked process that step begins."""

    def __init__(self, answers: TextIO) -> None:
        self.worker: Worker | None = None
        self._answers = answers

    def serve(self, spec: JobSpec) -> JobSpec:
        """The job with an order's batch, in a process of its own; ends this one when no more orders come."""
        # The collector would look through all of this in every process, and copy each page by that.
        gc.freeze()
        self._tell(event="ready")
        children: dict[int, tuple[int, str]] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            unread = b""
            while True:
                for key, _ in selector.select():
                    if key.fd != 0:
                        selector.unregister(key.fd)
                        self._end(key.fd, *children.pop(key.fd))
                        continue
                    received = os.read(0, 1 << 16)
                    if not received:
                        os._exit(0)
                    *lines, unread = (unread + received).split(b"\n")
                    for order in map(json.loads, lines):
                        pid = os.fork()
                        if pid == 0:
                            return self._become(spec, order)
                        pidfd = os.pidfd_open(pid)
                        children[pidfd] = pid, order["directory"]
                        selector.register(pidfd, selectors.EVENT_READ)

    def _become(self, spec: JobSpec, order: dict[str, Any]) -> JobSpec:
        """Be the worker of one order."""
        assert self.worker is not None, "it has come to its first step"
        signal_at_end_of(os.getppid(), signal.SIGKILL)
        IN_BAD_FORK.replace(lambda: False)
        directory = Path(order["directory"])
        with (directory / STDERR).open("wb") as stderr:
            os.dup2(stderr.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
        self.worker.continue_in(directory)
        return spec.model_copy(update={name: order[name] for name in _CHANGED})

    def _end(self, pidfd: int, pid: int, directory: str) -> None:
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._tell(event="ended", directory=directory, exit_code=os.waitstatus_to_exitcode(status))

    def _tell(self, **answer: object) -> None:
        self._answers.write(json.dumps(answer) + "\n")


def main(directory: str, *, parent: int) -> None:
    """Serve the job whose request is in `directory`; its report is there if it does not come to its steps."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # whatever a library prints is no answer
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not signal_at_end_of(parent, signal.SIGKILL):
        os._exit(1)
    place = Path(directory)
    request = Request.model_validate_json((place / REQUEST).read_text())
    apply_alloc_conf(request.spec.alloc_conf)
    state = open_state(Path(os.environ[STATE_VARIABLE]))
    set_architectures(state)
    batches = _Batches(answers)
    batches.worker = Worker(
        place, request, ExactMeter(state), state, before_steps=batches.serve, is_brief=True
    )
    batches.worker.run()
    os._exit(0)
