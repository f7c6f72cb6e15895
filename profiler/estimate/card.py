"""Which card an estimate is judged against, and what of it a job can fill."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from profiler.hardware.catalogue import Gpu, load_catalogue

if TYPE_CHECKING:
    from profiler.hardware.nvml import RealGpu
    from profiler.jobs.job import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The card of an estimate; a job fits if its CUDA context and reserved memory do.

    Attributes:
        id: the id of the catalogue, or a real card's name.
        name: the name CUDA reports.
        total_bytes: what CUDA can hand out, the context included.
        context_bytes: what the CUDA context takes; None for a real card that the catalogue does not know.
        reason: why this card.
    """

    id: str
    name: str
    total_bytes: int
    context_bytes: int | None
    reason: str


def card_of(job: JobSpec) -> Card:
    """The card that a job names: one of the catalogue, or a real one as the driver describes it.

    Raises:
        ConfigError: if the catalogue has no such card.
        EnvironmentUnfitError: if a real one was asked for and there is none.
    """
    return _find_card(job.gpu, job.gpu_memory_bytes)


@cache
def _find_card(request: str, gpu_memory_bytes: int | None) -> Card:
    if request in load_catalogue() and gpu_memory_bytes is None:
        return _catalogue_card(load_catalogue()[request], reason=f"{request} was asked for")
    from profiler.hardware.discovery import choose_device  # noqa: PLC0415 - NVML is for all other requests

    choice = choose_device(request, gpu_memory_bytes=gpu_memory_bytes)
    if isinstance(choice.gpu, Gpu):
        return _catalogue_card(choice.gpu, reason=choice.reason)
    return _real_card(choice.gpu, reason=choice.reason)


def _catalogue_card(gpu: Gpu, *, reason: str) -> Card:
    return Card(
        id=gpu.id,
        name=gpu.name,
        total_bytes=gpu.total_bytes,
        context_bytes=gpu.context_bytes,
        reason=reason,
    )


def _real_card(gpu: RealGpu, *, reason: str) -> Card:
    """A real card, with what the catalogue knows of its kind.

    NVML counts the driver's reserve, which CUDA cannot hand out; the catalogue has both totals of a card.
    """
    known = next((card for card in load_catalogue().values() if card.name == gpu.name), None)
    driver_bytes = known.nvml_total_bytes - known.total_bytes if known else 0
    return Card(
        id=gpu.name,
        name=gpu.name,
        total_bytes=gpu.total_bytes - driver_bytes,
        context_bytes=known.context_bytes if known else None,
        reason=reason,
    )
