"""Where jobs run: as many virtual ones at a time as there are cores, and one at a time on each real card."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from profiler.errors import EnvironmentUnfitError, PeakvramError
from profiler.execute.pool import ForkServerDiedError, ForkServerError, Pool
from profiler.hardware.catalogue import Gpu
from profiler.hardware.discovery import DeviceChoice, choose_device, find_real_gpus
from profiler.hardware.idle import check_idle
from profiler.jobs.models import read_config, resolve_model
from profiler.process.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from profiler.hardware.nvml import RealGpu
    from profiler.jobs.job import JobSpec

_MAX_DEATHS = 3  # of fork servers, one after another, with no job that ended in between
_LINGER_S = 5.0  # for how long a driver may list a process that has just ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place for one job: a worker's name, the card, and the pool that forks the worker."""

    name: str
    choice: DeviceChoice
    pool: Pool


class Slots:
    """All the places of a sweep; a `with` block ends every pool that was started."""

    def __init__(self, jobs: Sequence[JobSpec], *, num_workers: int | None, allow_busy: bool) -> None:
        """Prepares places for these jobs; pools start when they are first needed.

        Args:
            jobs: of the sweep: their models decide what workers import beforehand.
            num_workers: virtual jobs at a time; None for one a core.
            allow_busy: give real cards, too, that other processes use.
        """
        self._allow_busy = allow_busy
        self._families = sorted({family for job in jobs if (family := _model_type(job)) is not None})
        self._free_workers = list(range(num_workers or len(os.sched_getaffinity(0))))
        self._cards: list[RealGpu] | None = None  # found when a job first asks for one
        self._held: dict[str, RealGpu] = {}
        self._given_s: dict[str, float] = {}  # when a card was given back
        self._leases = Leases()
        self._pools: dict[str, Pool] = {}
        self._open = ExitStack()
        self._num_deaths = 0

    def __enter__(self) -> Self:
        """The slots themselves."""
        self._open.enter_context(self._leases)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every pool with its jobs."""
        with self._open:
            for pool in self.pools:
                self._open.callback(pool.close)

    @property
    def are_all_taken(self) -> bool:
        """Whether no job at all can be placed now."""
        is_every_card_held = self._cards is None or len(self._held) == len(self._cards)
        return not self._free_workers and is_every_card_held

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Those that have been started."""
        return tuple(self._pools.values())

    def take(self, job: JobSpec) -> Slot | None:
        """A place for this job, or None if there is none free.

        Raises:
            ConfigError: it asks for a card that there is not.
            ForkServerError: no worker can be started, for this job or any like it.
            EnvironmentUnfitError: no such card can be used here.
        """
        return self._take_real(job) if job.is_real_gpu_asked else self._take_virtual(job)

    def give(self, slot: Slot) -> None:
        """A job is over: its place is free again."""
        if slot.choice.kind == "virtual":
            self._free_workers.append(int(slot.name.rpartition(" ")[2]))
            return
        card = self._held.pop(slot.name)
        self._given_s[card.uuid] = time.monotonic()
        self._leases.release(card.uuid)

    def replace(self, pool: Pool) -> None:
        """Forget a pool whose fork server has died; the next job starts another.

        Raises:
            ForkServerError: they die again and again.
        """
        self._pools = {kind: other for kind, other in self._pools.items() if other is not pool}
        pool.close()
        self._count_death(after=pool.num_ended)

    def _take_virtual(self, job: JobSpec) -> Slot | None:
        if not self._free_workers:
            return None
        choice = choose_device(job.gpu, gpu_memory_bytes=job.gpu_memory_bytes)
        pool = self._pool(choice)
        return Slot(name=f"worker {self._free_workers.pop(0)}", choice=choice, pool=pool)

    def _take_real(self, job: JobSpec) -> Slot | None:
        index = job.gpu.partition(":")[2]
        wanted = [card for card in self._find_cards() if not index or card.index == int(index)]
        if not wanted:
            raise EnvironmentUnfitError(
                f"there is no GPU {index}: CUDA sees {len(self._find_cards())}, numbered from 0",
                hint="`peakvram doctor` lists them; CUDA_VISIBLE_DEVICES hides the others",
            )
        refusals: list[PeakvramError] = []
        for card in wanted:
            if card.uuid in self._held or not self._leases.lease(card):
                continue
            try:
                check_idle(card, allow_busy=self._allow_busy)
            except PeakvramError as error:
                self._leases.release(card.uuid)
                refusals.append(error)
                continue
            return self._slot_on(card)
        if len(refusals) == len(wanted) and not any(self._is_just_free(card) for card in wanted):
            raise refusals[0]
        return None

    def _slot_on(self, card: RealGpu) -> Slot:
        choice = DeviceChoice(kind="real", gpu=card, reason="a real GPU was asked for")
        pool = self._pool(choice)
        self._held[card.uuid] = card
        return Slot(name=card.uuid, choice=choice, pool=pool)

    def _is_just_free(self, card: RealGpu) -> bool:
        """Whether our own job may be the one that the driver still lists."""
        return card.uuid in self._given_s and time.monotonic() - self._given_s[card.uuid] < _LINGER_S

    def _find_cards(self) -> list[RealGpu]:
        if self._cards is None:
            self._cards = list(find_real_gpus().gpus)
        return self._cards

    def _pool(self, choice: DeviceChoice) -> Pool:
        while choice.kind not in self._pools:
            pool = Pool(choice.gpu, families=self._families)
            try:
                self._pools[choice.kind] = pool.start()
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


def resolve_auto(jobs: Sequence[JobSpec]) -> list[JobSpec]:
    """The same jobs with `auto` made what it stands for here: a real card, or the default virtual one."""
    if all(job.gpu != "auto" for job in jobs):
        return list(jobs)
    gpu = choose_device("auto").gpu
    name = gpu.id if isinstance(gpu, Gpu) else "real"
    return [job.model_copy(update={"gpu": name}) if job.gpu == "auto" else job for job in jobs]


def _model_type(job: JobSpec) -> str | None:
    """The model's family as transformers names it, if it is known without asking the Hub."""
    with suppress(PeakvramError):  # told when the job is run
        source = resolve_model(job.model, weights=job.weights, revision=job.revision)
        if source.kind != "hub":
            return str(read_config(source)["model_type"])
    return None
