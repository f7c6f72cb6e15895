"""Which real GPUs a CUDA process sees, and under which index.

CUDA numbers the cards by an order of its own, then lets `CUDA_VISIBLE_DEVICES` choose among the numbers.
NVML knows neither, so an NVML index says nothing about a CUDA device (reading the wrong card is a well-known
way to report 0 bytes). Cards are matched by UUID and by PCI bus id here, never by index.

Sources: CUDA Programming Guide, "CUDA Environment Variables" (order, numbers, UUID prefixes, a bad entry cuts
the list); MIG User Guide, "CUDA Device Enumeration" (one slice a process, and no whole card beside it);
`torch/cuda/__init__.py` (numbers read as `strtoul` does, a repeated entry empties the list).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiler.hardware.nvml import RealGpu, WholeCard

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER_VARIABLE = "CUDA_DEVICE_ORDER"

_GUESSED = (
    f"the cards differ and {ORDER_VARIABLE} is not PCI_BUS_ID, so CUDA's own order is a guess; "
    "the card is confirmed by UUID when the job starts"
)

_LEADING_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleGpus:
    """The GPUs of a CUDA process.

    Attributes:
        gpus: in CUDA's order; `index` of each is set.
        is_certain: False where CUDA's own order decides and cannot be known without starting CUDA; then
            whoever starts it must confirm the card by UUID (`match_by_uuid`).
        note: why the list is as it is, where that is not obvious; else empty.
    """

    gpus: tuple[RealGpu, ...]
    is_certain: bool
    note: str


def find_visible(cards: Sequence[WholeCard], environ: Mapping[str, str]) -> VisibleGpus:
    """The GPUs among `cards` that a CUDA process started with `environ` would see."""
    ordered, is_certain = _in_cuda_order(cards, environ.get(ORDER_VARIABLE, ""))
    wanted = environ.get(VISIBLE_VARIABLE)
    if wanted is None:
        chosen = [gpu for card in ordered for gpu in card.gpus[:1]]
    elif wanted.startswith(("GPU-", "MIG-")):
        chosen, is_certain = _by_uuid(wanted, ordered), True
    else:
        chosen = _by_number(wanted, ordered)
    seen = _as_cuda_enumerates(chosen)
    gpus = tuple(replace(gpu, index=index) for index, gpu in enumerate(seen))
    note = _explain(wanted) if cards and not gpus else ""
    if len(gpus) < len(chosen):
        note = "a process sees one MIG slice and nothing beside it"
    elif gpus and not is_certain:
        note = _GUESSED
    return VisibleGpus(gpus=gpus, is_certain=is_certain or not gpus, note=note)


def match_by_uuid(gpus: Iterable[RealGpu], uuid: str) -> RealGpu | None:
    """The GPU with this UUID, as CUDA or torch's device properties write it (with or without a prefix).

    CUDA may name a slice by its card's UUID; that matches where only one slice of the card is among `gpus`.
    """
    listed, digits = tuple(gpus), _digits(uuid)
    own = [gpu for gpu in listed if _digits(gpu.uuid) == digits]
    matches = own or [gpu for gpu in listed if _digits(gpu.parent_uuid or "") == digits]
    return matches[0] if len(matches) == 1 else None


def _digits(uuid: str) -> str:
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-").replace("-", "")


def _in_cuda_order(cards: Sequence[WholeCard], order: str) -> tuple[list[WholeCard], bool]:
    """The cards as CUDA numbers them, and whether that is certain.

    By default CUDA puts the fastest first, by a rule it does not publish; among equal cards that leaves the
    PCI order. For unequal ones this guesses: newer architecture, then more memory.
    """
    by_bus = sorted(cards, key=lambda card: card.pci_bus_id)
    if order == "PCI_BUS_ID" or len({card.name for card in cards}) <= 1:
        return by_bus, True

    def slowness(card: WholeCard) -> tuple[int, int, int]:
        major, minor = card.compute_capability
        return -major, -minor, -sum(gpu.total_bytes for gpu in card.gpus)

    return sorted(by_bus, key=slowness), False


def _by_number(wanted: str, ordered: Sequence[WholeCard]) -> list[RealGpu]:
    numbers: list[int] = []
    for entry in wanted.split(","):
        match = _LEADING_NUMBER.match(entry.strip())
        number = int(match[0]) if match else -1
        if number in numbers:
            return []
        if number < 0:
            break
        numbers.append(number)
    chosen: list[RealGpu] = []
    for number in numbers:
        if number >= len(ordered):
            break
        chosen += ordered[number].gpus[:1]
    return chosen


def _by_uuid(wanted: str, ordered: Sequence[WholeCard]) -> list[RealGpu]:
    kind = wanted[:4]
    names = list(takewhile(lambda entry: entry.startswith(kind), wanted.split(",")))
    found = [_slice(name, ordered) if kind == "MIG-" else _whole(name, ordered) for name in names]
    chosen = [gpu for gpu in takewhile(lambda gpu: gpu is not None, found) if gpu is not None]
    is_repeated = len(set(names)) < len(names) or len({gpu.uuid for gpu in chosen}) < len(chosen)
    return [] if is_repeated else chosen


def _whole(prefix: str, ordered: Sequence[WholeCard]) -> RealGpu | None:
    """The only card whose UUID starts like this; of a split card, its first slice."""
    matches = [card for card in ordered if card.uuid.startswith(prefix)]
    return next(iter(matches[0].gpus), None) if len(matches) == 1 else None


def _slice(name: str, ordered: Sequence[WholeCard]) -> RealGpu | None:
    """A slice by its UUID, or as drivers before release 470 named it: `MIG-<card's UUID>/<GPU>/<compute>`."""
    for card in ordered:
        for gpu in card.gpus:
            if gpu.mig_instance is None:
                continue
            graphics, compute = gpu.mig_instance
            if name in (gpu.uuid, f"MIG-{card.uuid}/{graphics}/{compute}"):
                return gpu
    return None


def _as_cuda_enumerates(chosen: Sequence[RealGpu]) -> Sequence[RealGpu]:
    """One slice is all that a process sees if it sees any, whatever else was asked for."""
    return next(([gpu] for gpu in chosen if gpu.mig), chosen)


def _explain(wanted: str | None) -> str:
    """Why a process sees none of a machine's cards."""
    if wanted is not None:
        return f"{VISIBLE_VARIABLE}={wanted!r} leaves CUDA none of this machine's GPUs"
    return "every GPU is in MIG mode and none has a slice that this user may use"
