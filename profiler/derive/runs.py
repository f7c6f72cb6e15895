"""Runs of a job at points of its variables: its model is made once, and trained with each batch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.derive.observe import CannotFollowError, Observation, Observer, Point
from profiler.errors import ConfigError
from profiler.execute.outcome import read_report, worker_result
from profiler.execute.prepare import Workplace, prepare_job
from profiler.hardware.catalogue import load_catalogue
from profiler.hardware.discovery import choose_device
from profiler.process.children import call_in_new_python, kill_group
from profiler.process.protocol import EVENTS, STDERR
from profiler.records.schema import OutcomeStatus
from profiler.records.trace import read_trace
from profiler.text import in_one_line
from profiler.units import TIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from profiler.jobs.job import JobSpec

_CARD_BYTES = 16 * TIB
"""What the virtual card of these runs has: nothing runs out, so that all that is asked for is seen."""
_WORKER = ("profiler.execute.batches", "main")


class PointRuns(ExitStack):
    """Runs one job, each time with another batch; a `with` block ends what still runs.

    Attributes:
        spec: the job, on a virtual card that never runs full.
        card: that card, as the catalogue has it.
        num_done: runs that have ended.
    """

    def __init__(
        self,
        spec: JobSpec,
        *,
        num_workers: int | None = None,
        on_run: Callable[[Point], None] = lambda _: None,
    ) -> None:
        """Starts the process that makes the model; `observe` waits for it.

        Args:
            spec: the job; its batch does not matter, its card is one of the catalogue.
            num_workers: how many runs at a time; None for one a core.
            on_run: told of each run that has ended.

        Raises:
            ConfigError: the card is none of the catalogue, or the job cannot run.
            EnvironmentUnfitError: a virtual GPU cannot work here.
        """
        super().__init__()
        if spec.gpu not in load_catalogue():
            raise ConfigError(
                f"a formula is derived on a virtual card, and {spec.gpu!r} is none",
                hint="name one of `peakvram gpus`, such as --gpu rtx-4090",
            )
        self.card = load_catalogue()[spec.gpu]
        self.spec = spec.model_copy(update={"gpu_memory_bytes": _CARD_BYTES, "alloc_conf": ""})
        self.num_done = 0
        self._num_workers = num_workers or len(os.sched_getaffinity(0))
        self._on_run = on_run
        self._observer = Observer()
        choice = choose_device(spec.gpu, gpu_memory_bytes=_CARD_BYTES)
        job = prepare_job(self.spec, choice, allow_busy=False)
        self._place = self.enter_context(Workplace(replace(job, kept=frozenset({EVENTS}))))
        with (self._place.directory / STDERR).open("wb") as stderr:
            self._process = subprocess.Popen(
                call_in_new_python(*_WORKER, str(self._place.directory)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=self._place.variables,
                start_new_session=True,  # a Ctrl-C at the terminal is for this process alone
            )
        self.callback(self._end)
        self._is_ready = False

    def observe(self, points: Iterable[Point], *, num_steps: int) -> dict[Point, Observation | str]:
        """What the job does at some points; why not, where a run did not end well.

        Args:
            points: where.
            num_steps: training steps of each run.

        Raises:
            CannotFollowError: it does what no formula can say, or does not come to its steps.
            ConfigError: it is refused whatever its batch.
            EnvironmentUnfitError: it cannot run here.
        """
        waiting = list(dict.fromkeys(points))[::-1]
        running: dict[str, Point] = {}
        found: dict[Point, Observation | str] = {}
        if waiting and not self._is_ready:
            self._is_ready = self._answer()["event"] == "ready"
        while waiting or running:
            while waiting and len(running) < self._num_workers:
                point = waiting.pop()
                running[self._order(point, num_steps)] = point
            answer = self._answer()
            directory, exit_code = str(answer["directory"]), int(str(answer["exit_code"]))
            point = running.pop(directory)
            found[point] = self._read(point, self._place.directory / directory, exit_code)
            self.num_done += 1
            self._on_run(point)
        return found

    def _order(self, point: Point, num_steps: int) -> str:
        """Have a point run; the directory that it leaves its report in."""
        directory = self._place.directory / str(point).replace(" ", "")
        directory.mkdir()
        order = {"directory": str(directory), "steps": num_steps, **point._asdict()}
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return str(directory)

    def _answer(self) -> dict[str, object]:
        assert self._process.stdout is not None, "it is a pipe"
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, object] = json.loads(line)
            return answer
        result = worker_result(self._place.directory, self._place.request, self._process.wait())
        told = in_one_line(result.outcome.message or str(result.outcome.status))
        raise CannotFollowError(f"{self.spec.model} does not come to its first step: {told}")

    def _read(self, point: Point, directory: Path, exit_code: int) -> Observation | str:
        try:
            report = read_report(directory)
            outcome = report.outcome if report is not None else None
            if report is None or outcome is None:
                return worker_result(directory, self._place.request, exit_code).outcome.message or "killed"
            if outcome.status is not OutcomeStatus.OK:
                return outcome.message or str(outcome.status)
            return self._observer.observe(point, read_trace(directory / EVENTS), report.phases)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _end(self) -> None:
        kill_group(self._process.pid)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None, "it is a pipe"
            pipe.close()
