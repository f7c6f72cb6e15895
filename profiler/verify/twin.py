"""Which virtual card is a real card's twin, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from profiler.hardware.catalogue import Gpu, load_catalogue
from profiler.hardware.discovery import DeviceChoice
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from profiler.hardware.nvml import RealGpu
    from profiler.verify.facts import CardFacts

_SIZE_TOLERANCE = 0.03
"""Cards of one name that differ by more than this are other models (RTX 3060 with 8 or 12 GB); by less, the
driver or ECC makes the difference (RTX 4090: 24,081 to 24,563 MiB, `configs/gpus/rtx-4090.yaml`)."""

_COMPARED = (
    *("total_bytes", "nvml_total_bytes", "context_bytes", "memory_bus_width_bits", "l2_cache_bytes"),
    *("max_threads_per_sm", "max_blocks_per_sm", "shared_memory_per_sm_bytes"),
    "max_shared_memory_per_block_optin_bytes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueDifference:
    """A figure of the catalogue that the card itself does not confirm; None where the catalogue has none."""

    figure: str
    catalogue: int | None
    card: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The virtual card that stands beside a real one.

    Attributes:
        gpu: the card, with every figure as the real one gives it.
        reason: why this one.
        catalogue_id: the card of the catalogue that it is, if it is one.
        differences: what the catalogue says otherwise.
    """

    gpu: Gpu
    reason: str
    catalogue_id: str | None
    differences: tuple[CatalogueDifference, ...]

    @property
    def choice(self) -> DeviceChoice:
        """The twin as the device of a job."""
        return DeviceChoice(kind="virtual", gpu=self.gpu, reason=self.reason)


def twin_of(gpu: RealGpu, facts: CardFacts) -> Twin:
    """The twin of a real card: the same memory, multiprocessors and limits, and a context of the same size.

    Args:
        gpu: the card as NVML lists it.
        facts: what CUDA says of it.
    """
    catalogue = list(load_catalogue().values())
    found = next((known for known in catalogue if _is_same(known, facts)), None)
    if found is None:
        reason = (
            "made from what CUDA and NVML say: no card of the catalogue has the name, memory, "
            f"compute capability and multiprocessors of {facts.name}"
        )
        return Twin(gpu=_make(catalogue, gpu, facts), reason=reason, catalogue_id=None, differences=())
    card = _with_figures(found, gpu, facts)
    differences = tuple(_differences(found, card))
    reason = (
        f"the catalogue's {found.id} has the name, compute capability and multiprocessors of {facts.name}"
    )
    if differences:
        reason += f"; {', '.join(difference.figure for difference in differences)} are the card's own"
    return Twin(gpu=card, reason=reason, catalogue_id=found.id, differences=differences)


def _is_same(known: Gpu, facts: CardFacts) -> bool:
    is_alike = (known.name, known.compute_capability, known.num_sms) == (
        facts.name,
        facts.compute_capability,
        facts.num_sms,
    )
    return is_alike and abs(known.total_bytes - facts.total_bytes) <= _SIZE_TOLERANCE * known.total_bytes


def _differences(known: Gpu, card: Gpu) -> Iterator[CatalogueDifference]:
    for name in _COMPARED:
        pair = (getattr(known, name), getattr(card, name))
        if pair[0] != pair[1]:
            yield CatalogueDifference(figure=name, catalogue=pair[0], card=pair[1])


def _with_figures(known: Gpu, gpu: RealGpu, facts: CardFacts) -> Gpu:
    """The card with the figures that the real one gives."""
    return replace(
        known,
        total_bytes=facts.total_bytes,
        nvml_total_bytes=max(gpu.total_bytes, facts.total_bytes),
        context_bytes=facts.context_bytes,
        memory_bus_width_bits=facts.memory_bus_width_bits,
        l2_cache_bytes=facts.l2_cache_bytes,
        max_threads_per_sm=facts.max_threads_per_sm,
        max_blocks_per_sm=facts.max_blocks_per_sm,
        shared_memory_per_sm_bytes=facts.shared_memory_per_sm_bytes,
        max_shared_memory_per_block_optin_bytes=facts.max_shared_memory_per_block_optin_bytes,
    )


def _make(catalogue: Iterable[Gpu], gpu: RealGpu, facts: CardFacts) -> Gpu:
    """A card of the catalogue's kind for one it does not have.

    What no driver tells, and nothing of the virtual device reads (the generation), is of the nearest card.
    """

    def distance(known: Gpu) -> tuple[int, int]:
        major, minor = known.compute_capability
        return abs(major - facts.compute_capability[0]), abs(minor - facts.compute_capability[1])

    slug = re.sub(r"[^a-z0-9]+", "-", facts.name.lower()).strip("-")
    return replace(
        _with_figures(min(catalogue, key=distance), gpu, facts),
        id=f"twin-of-{slug}",
        name=facts.name,
        marketing_bytes=-(-facts.total_bytes // GIB) * GIB,
        compute_capability=facts.compute_capability,
        num_sms=facts.num_sms,
        context_low_bytes=facts.context_bytes,
        context_high_bytes=facts.context_bytes,
        context_is_measured=True,
        figures=(),
    )
