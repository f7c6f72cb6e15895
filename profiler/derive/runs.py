"""Runs of a job at points of its variables, side by side in workers forked from one warm process."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.derive.observe import Observation, Point, observe
from profiler.errors import ConfigError
from profiler.execute.outcome import worker_result
from profiler.execute.pool import Pool
from profiler.execute.prepare import prepare_job
from profiler.formula.configs import config_of
from profiler.hardware.catalogue import load_catalogue
from profiler.hardware.discovery import choose_device
from profiler.process.protocol import EVENTS
from profiler.records.schema import OutcomeStatus
from profiler.records.trace import read_trace
from profiler.units import TIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from profiler.execute.prepare import Workplace
    from profiler.jobs.job import JobSpec

_CARD_BYTES = 16 * TIB
"""What the virtual card of these runs has: nothing runs out, so that all that is asked for is seen."""


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
        """Starts the process that workers are forked from.

        Args:
            spec: the job; its batch does not matter, its card is one of the catalogue.
            num_workers: how many runs at a time; None for one a core.
            on_run: told of each run that has ended.

        Raises:
            ConfigError: the card is none of the catalogue, or the model is not known.
            EnvironmentUnfitError: a virtual GPU cannot work here.
        """
        super().__init__()
        if spec.gpu not in load_catalogue():
            raise ConfigError(
                f"a formula is derived on a virtual card, and {spec.gpu!r} is none",
                hint="name one of `peakvram gpus`, such as --gpu rtx-4090",
            )
        self.spec = spec.model_copy(update={"gpu_memory_bytes": _CARD_BYTES, "alloc_conf": ""})
        self.num_done = 0
        self.card = load_catalogue()[spec.gpu]
        self._choice = choose_device(spec.gpu, gpu_memory_bytes=_CARD_BYTES)
        self._num_workers = num_workers or len(os.sched_getaffinity(0))
        self._on_run = on_run
        config = config_of(spec.model, weights=spec.weights, revision=spec.revision)
        assert config is not None, "it may be fetched"
        self._pool = self.enter_context(Pool(self._choice.gpu, families=[str(config["model_type"])]))

    def observe(self, points: Iterable[Point]) -> dict[Point, Observation | str]:
        """What the job does at some points; why not, where a run did not end well.

        Raises:
            ConfigError: the job is refused whatever its batch.
            CannotFollowError: it does what no formula can say.
            EnvironmentUnfitError: it cannot run here.
        """
        waiting = list(dict.fromkeys(points))
        waiting.reverse()
        running: dict[str, tuple[Point, Workplace]] = {}
        found: dict[Point, Observation | str] = {}
        with ExitStack() as places:
            while waiting or running:
                while waiting and len(running) < self._num_workers:
                    point = waiting.pop()
                    place = places.enter_context(self._place(point))
                    running[str(place.directory)] = (point, place)
                    self._pool.submit(place)
                for answer in self._pool.wait(None):
                    if answer.event == "ended":
                        point, place = running.pop(answer.directory)
                        found[point] = _read(point, place, answer.exit_code)
                        place.close()
                        self.num_done += 1
                        self._on_run(point)
        return found

    def _place(self, point: Point) -> Workplace:
        spec = self.spec.model_copy(update=point._asdict())
        job = prepare_job(spec, self._choice, allow_busy=False)
        return self._pool.workplace(replace(job, kept=frozenset({EVENTS})))


def _read(point: Point, place: Workplace, exit_code: int) -> Observation | str:
    result = worker_result(place.directory, place.request, exit_code)
    if result.outcome.status is not OutcomeStatus.OK:
        return result.outcome.message or str(result.outcome.status)
    return observe(point, read_trace(place.directory / EVENTS), result.report.phases)
