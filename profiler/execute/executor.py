"""Who runs the jobs of a sweep: here the pools of workers of this machine, one day a cluster's queue."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias

from profiler.errors import EnvironmentUnfitError, PeakvramError
from profiler.execute.outcome import worker_result
from profiler.execute.pool import ForkServerDiedError, ForkServerError, Pool
from profiler.execute.prepare import PreparedJob, prepare_job, surroundings_of
from profiler.execute.queue import QueuedJob
from profiler.hardware.catalogue import Gpu
from profiler.hardware.discovery import DeviceChoice, choose_device, find_real_gpus
from profiler.hardware.idle import check_idle
from profiler.jobs.models import read_config, resolve_model
from profiler.process.faults import num_kills_for_memory
from profiler.process.leases import Leases
from profiler.records.build import build_record
from profiler.records.schema import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.execute.options import SweepOptions
    from profiler.execute.prepare import Workplace
    from profiler.hardware.nvml import RealGpu
    from profiler.jobs.job import JobSpec

_MAX_ATTEMPTS = 2
_MAX_DEATHS = 3  # of fork servers, one after another, with no job that ended in between
_LINGER_S = 5.0  # for how long a driver may list a process that has just ended

JobEnd: TypeAlias = tuple[QueuedJob, Record | PeakvramError | None]
"""A job with its record, or with why it was refused; None where it was lost with what it ran on, and has to
be started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A job with a place to run, which is kept for it until it is cancelled or has ended.

    Attributes:
        queued: the job as the sweep knows it.
        job: the same with its model and card.
        where: the place's name, such as a card's UUID; no two jobs have one at a time.
    """

    queued: QueuedJob
    job: PreparedJob
    where: str

    @property
    def fingerprint(self) -> str | None:
        """Of the surroundings that its worker will find."""
        return surroundings_of(self.job.spec, self.job.choice)


class Executor(Protocol):
    """Runs jobs somewhere, several at a time."""

    @property
    def is_busy(self) -> bool:
        """Whether any job runs."""

    @property
    def is_full(self) -> bool:
        """Whether there is no place for any job now."""

    def place(self, queued: QueuedJob) -> Placement | None:
        """A place for a job; None if there is none free.

        Raises:
            ForkServerError: no job can be run, now or later.
            PeakvramError: this job cannot be run as it was asked for.
        """

    def cancel(self, placement: Placement) -> None:
        """The job is not to be started after all: its place is free again."""

    def start(self, placement: Placement) -> None:
        """Start a job in its place."""

    def wait(self, timeout_s: float) -> Iterator[JobEnd]:
        """Jobs that have ended within the time given."""


@dataclass(slots=True, kw_only=True)
class _Run:
    placement: Placement
    pool: Pool
    workplace: Workplace
    deadline_s: float | None
    created_at: datetime
    num_kills: int | None
    is_late: bool = False


class LocalExecutor(ExitStack):
    """Runs jobs in workers of this machine: virtual ones side by side, one at a time on each real card.

    A `with` block ends every job that runs. Pools of workers start when they are first needed.
    """

    def __init__(self, jobs: Sequence[JobSpec], options: SweepOptions) -> None:
        """Starts nothing yet.

        Args:
            jobs: all those of the sweep: their models decide what workers import beforehand.
            options: how to run them.
        """
        super().__init__()
        self._options = options
        self._families = sorted({family for job in jobs if (family := _model_type(job)) is not None})
        num_workers = options.num_workers or len(os.sched_getaffinity(0))
        self._free_workers = [f"worker {number}" for number in range(num_workers)]
        self._cards: list[RealGpu] | None = None  # found when a job first asks for one
        self._cards_in_use: set[str] = set()
        self._given_s: dict[str, float] = {}  # when a card was given back
        self._pools: dict[str, Pool] = {}
        self._runs: dict[str, _Run] = {}  # by the directory of the workplace
        self._attempts: Counter[str] = Counter()
        self._num_deaths = 0
        self.callback(self._close_workplaces)  # once the workers have ended
        self._leases = self.enter_context(Leases())

    @property
    def is_busy(self) -> bool:
        """Whether any job runs."""
        return bool(self._runs)

    @property
    def is_full(self) -> bool:
        """Whether there is no place for any job now."""
        return not self._free_workers and len(self._cards_in_use) == len(self._cards or ())

    def place(self, queued: QueuedJob) -> Placement | None:
        """A free worker, on a card that nobody uses; see `Executor`."""
        spec, allow_busy = queued.spec, self._options.allow_busy
        choice = self._free_card(spec) if spec.is_real_gpu_asked else self._virtual_card(spec)
        if choice is None:
            return None
        self._pool(choice)
        if isinstance(choice.gpu, Gpu):
            where = self._free_workers.pop(0)
        else:
            where = choice.gpu.uuid
            self._cards_in_use.add(where)
        try:
            job = prepare_job(spec, choice, allow_busy=allow_busy)
            return Placement(queued=queued, job=job, where=where)
        except PeakvramError:
            self._give(where)
            raise

    def cancel(self, placement: Placement) -> None:
        """The worker and the card are free again."""
        self._give(placement.where)

    def start(self, placement: Placement) -> None:
        """Fork a worker for it."""
        pool, limit_s = self._pool(placement.job.choice), self._options.timeout_s
        workplace = pool.workplace(placement.job)
        self._runs[str(workplace.directory)] = _Run(
            placement=placement,
            pool=pool,
            workplace=workplace,
            deadline_s=None if limit_s is None else time.monotonic() + limit_s,
            created_at=datetime.now(UTC),
            num_kills=num_kills_for_memory(),
        )
        pool.submit(workplace)

    def wait(self, timeout_s: float) -> Iterator[JobEnd]:
        """What has ended in any pool; see `Executor`.

        Raises:
            ForkServerError: fork servers die again and again.
        """
        for kind, pool in list(self._pools.items()):
            try:
                for answer in pool.wait(timeout_s / len(self._pools)):
                    if answer.event == "ended":
                        run = self._runs.pop(answer.directory)
                        yield run.placement.queued, self._end(run, answer.exit_code)
            except ForkServerDiedError:
                yield from self._lose(pool)
                self._pools.pop(kind).close()
                self._count_death(after=pool.num_ended)
        now_s = time.monotonic()
        for run in self._runs.values():
            if run.deadline_s is not None and now_s > run.deadline_s and not run.is_late:
                run.is_late = True
                run.pool.kill(run.workplace.directory)

    def _end(self, run: _Run, exit_code: int) -> Record | PeakvramError:
        self.cancel(run.placement)
        limit_s = self._options.timeout_s if run.is_late else None
        try:
            with run.workplace as place:
                result = worker_result(
                    place.directory, place.request, exit_code, time_limit_s=limit_s, num_kills=run.num_kills
                )
        except PeakvramError as error:
            return error
        spec = run.placement.job.spec
        return build_record(
            spec=spec, report=result.report, outcome=result.outcome, created_at=run.created_at
        )

    def _lose(self, pool: Pool) -> Iterator[JobEnd]:
        """A fork server died with its jobs: not their fault, unless it happens twice to the same one."""
        for directory, run in [item for item in self._runs.items() if item[1].pool is pool]:
            del self._runs[directory]
            queued = run.placement.queued
            self._attempts[queued.key] += pool.has_started(run.workplace.directory)
            if self._attempts[queued.key] >= _MAX_ATTEMPTS:
                yield queued, self._end(run, -signal.SIGKILL)
                continue
            self.cancel(run.placement)
            run.workplace.close()
            yield queued, None

    def _virtual_card(self, spec: JobSpec) -> DeviceChoice | None:
        if not self._free_workers:
            return None
        return choose_device(spec.gpu, gpu_memory_bytes=spec.gpu_memory_bytes)

    def _free_card(self, spec: JobSpec) -> DeviceChoice | None:
        """A card that nobody uses, leased; one that another peakvram has is waited for."""
        if self._cards is None:
            self._cards = list(find_real_gpus().gpus)
        index = spec.gpu.partition(":")[2]
        wanted = [card for card in self._cards if not index or card.index == int(index)]
        if not wanted:
            raise EnvironmentUnfitError(
                f"there is no GPU {index}: CUDA sees {len(self._cards)}, numbered from 0",
                hint="`peakvram doctor` lists them; CUDA_VISIBLE_DEVICES hides the others",
            )
        refusals: list[PeakvramError] = []
        for card in wanted:
            if card.uuid in self._cards_in_use or not self._leases.lease(card):
                continue
            try:
                check_idle(card, allow_busy=self._options.allow_busy)
            except PeakvramError as error:
                self._leases.release(card.uuid)
                refusals.append(error)
                continue
            return DeviceChoice(kind="real", gpu=card, reason="a real GPU was asked for")
        if len(refusals) == len(wanted) and not any(self._is_just_free(card) for card in wanted):
            raise refusals[0]
        return None

    def _is_just_free(self, card: RealGpu) -> bool:
        """Whether our own job may be the one that the driver still lists."""
        return card.uuid in self._given_s and time.monotonic() - self._given_s[card.uuid] < _LINGER_S

    def _give(self, where: str) -> None:
        if where not in self._cards_in_use:
            self._free_workers.append(where)
            return
        self._cards_in_use.remove(where)
        self._given_s[where] = time.monotonic()
        self._leases.release(where)

    def _pool(self, choice: DeviceChoice) -> Pool:
        """A real card and a virtual one need different fork servers."""
        while choice.kind not in self._pools:
            try:
                pool = self.enter_context(Pool(choice.gpu, families=self._families))
                self._pools[choice.kind] = pool
            except ForkServerDiedError:
                self._count_death(after=0)
        return self._pools[choice.kind]

    def _count_death(self, *, after: int) -> None:
        """One more fork server has died, after so many jobs."""
        self._num_deaths = 1 if after else self._num_deaths + 1
        if self._num_deaths > _MAX_DEATHS:
            raise ForkServerError(
                "the process that jobs are forked from keeps dying",
                hint="the host may be short of memory: try fewer --workers",
            )

    def _close_workplaces(self) -> None:
        for run in self._runs.values():
            run.workplace.close()


def _model_type(job: JobSpec) -> str | None:
    """The model's family as transformers names it, if it is known without asking the Hub."""
    with suppress(PeakvramError):  # told when the job is run
        source = resolve_model(job.model, weights=job.weights, revision=job.revision)
        if source.kind != "hub":
            return str(read_config(source)["model_type"])
    return None
