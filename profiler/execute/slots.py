"""Where jobs run: as many virtual ones at a time as there are cores, and one at a time on each real card."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from profiler.errors import ConfigError, EnvironmentUnfitError, PeakvramError
from profiler.execute.claims import Claims, card_claims
from profiler.execute.pool import Pool
from profiler.hardware.catalogue import Gpu
from profiler.hardware.discovery import DeviceChoice, choose_device, find_real_gpus
from profiler.spec.models import read_config, resolve_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from profiler.hardware.nvml import RealGpu
    from profiler.spec.job import JobSpec

_MAX_RESTARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place for one job: a worker's name, the card, and the pool that forks the worker."""

    name: str
    choice: DeviceChoice
    pool: Pool


class Slots:
    """All the places of a sweep; a `with` block ends every pool that was started."""

    def __init__(self, jobs: Sequence[JobSpec], num_workers: int | None) -> None:
        """Prepares places for these jobs; pools start when they are first needed.

        Args:
            jobs: of the sweep: their models decide what workers import beforehand.
            num_workers: virtual jobs at a time; None for one a core.
        """
        self._families = sorted({family for job in jobs if (family := _model_type(job)) is not None})
        self._free_workers = list(range(num_workers or len(os.sched_getaffinity(0))))
        self._cards: list[RealGpu] | None = None  # found when a job first asks for one
        self._held: dict[str, RealGpu] = {}
        self._claims: Claims = card_claims()
        self._pools: dict[str, Pool] = {}
        self._open = ExitStack()
        self._num_restarts = 0

    def __enter__(self) -> Self:
        """The slots themselves."""
        self._open.enter_context(self._claims)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every pool with its jobs."""
        for pool in self.pools:
            pool.close()
        self._open.close()

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
            EnvironmentUnfitError: no such card can be used here.
        """
        if not job.is_real_gpu_asked:
            return self._take_virtual(job)
        cards = self._find_cards()
        index = job.gpu.partition(":")[2]
        wanted = [card for card in cards if not index or card.index == int(index)]
        if not wanted:
            raise ConfigError(f"there is no GPU {index}", hint=f"CUDA sees {len(cards)}")
        for card in wanted:
            if card.uuid not in self._held and self._claims.take(card.uuid):
                return self._slot_on(card)
        return None

    def give(self, slot: Slot) -> None:
        """A job is over: its place is free again."""
        if slot.choice.kind == "virtual":
            self._free_workers.append(int(slot.name.rpartition(" ")[2]))
            return
        card = self._held.pop(slot.name)
        self._claims.release(card.uuid)

    def replace(self, pool: Pool) -> None:
        """Forget a pool whose nursery has died; the next job starts another.

        Raises:
            EnvironmentUnfitError: they die again and again.
        """
        pool.close()
        self._pools = {kind: other for kind, other in self._pools.items() if other is not pool}
        self._num_restarts += 1
        if self._num_restarts > _MAX_RESTARTS:
            raise EnvironmentUnfitError(
                "the process that jobs are forked from keeps dying",
                hint="the host may be short of memory: try fewer --workers",
            )

    def _take_virtual(self, job: JobSpec) -> Slot | None:
        if not self._free_workers:
            return None
        choice = choose_device(job.gpu, gpu_memory_bytes=job.gpu_memory_bytes)
        return Slot(
            name=f"worker {self._free_workers.pop(0)}", choice=choice, pool=self._pool("virtual", choice)
        )

    def _slot_on(self, card: RealGpu) -> Slot:
        choice = DeviceChoice(kind="real", gpu=card, reason="a real GPU was asked for")
        self._held[card.uuid] = card
        return Slot(name=card.uuid, choice=choice, pool=self._pool("real", choice))

    def _find_cards(self) -> list[RealGpu]:
        if self._cards is None:
            self._cards = list(find_real_gpus().gpus)
        return self._cards

    def _pool(self, kind: str, choice: DeviceChoice) -> Pool:
        if kind not in self._pools:
            self._pools[kind] = Pool(choice.gpu, families=self._families).start()
        return self._pools[kind]


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
