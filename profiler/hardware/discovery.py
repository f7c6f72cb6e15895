"""Which device a job runs on: a real GPU or a virtual one, and why."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.hardware.catalogue import Gpu, find_gpu
from profiler.hardware.idle import find_busy
from profiler.hardware.nvml import VIRTUAL_HINT, RealGpu, open_nvml
from profiler.hardware.torch_build import check_driver, find_torch_build
from profiler.hardware.visible import VisibleGpus, find_visible
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Take = Callable[[RealGpu], bool]

DEFAULT_VIRTUAL_GPU = "rtx-4090"

_REAL = re.compile(r"real(?::(?P<index>\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """The device of a job.

    Attributes:
        kind: `real` or `virtual`.
        gpu: the card; a virtual one's total is the capacity asked for, if one was.
        reason: why this one, for people to read and for the record to keep.
    """

    kind: Literal["real", "virtual"]
    gpu: Gpu | RealGpu
    reason: str


def choose_device(
    request: str, *, gpu_memory_bytes: int | None = None, take: Take = lambda _: True
) -> DeviceChoice:
    """The device that `request` names: `auto`, `real`, `real:INDEX` or a catalogue id (a virtual card).

    `auto` takes a real GPU if there is one that torch can use, else the virtual RTX 4090. `real` and `auto`
    take the first GPU on which nobody else computes. An index is CUDA's, after `CUDA_VISIBLE_DEVICES`.

    Args:
        request: what the job asks for.
        gpu_memory_bytes: the capacity of a virtual card, instead of its own.
        take: told of a real card on which nobody computes, where there are several; one of which it says
            False is not for us, as another peakvram is about to use it.

    Raises:
        ConfigError: the request names no card, or gives a real one a capacity.
        EnvironmentUnfitError: a real GPU was asked for and there is none that can be used.
    """
    if request == "auto":
        return _choose_any(gpu_memory_bytes, take)
    if (match := _REAL.fullmatch(request)) is None:
        return _choose_virtual(request, gpu_memory_bytes, reason=f"{request} was asked for")
    if gpu_memory_bytes is not None:
        raise ConfigError(
            "a real GPU's memory cannot be set", hint=f"leave the capacity out, or {VIRTUAL_HINT}"
        )
    return _choose_real(None if match["index"] is None else int(match["index"]), take)


def find_real_gpus(environ: Mapping[str, str] | None = None) -> VisibleGpus:
    """The real GPUs that a CUDA process of this torch would see, started with `environ` (else our own).

    Raises:
        EnvironmentUnfitError: no driver, no GPU, none that is visible, or a driver too old for torch.
    """
    with open_nvml() as nvml:
        listing = nvml.list_cards()
        check_driver(find_torch_build(), driver=nvml.driver, driver_cuda_version=nvml.cuda_version)
    visible = find_visible(listing.cards, os.environ if environ is None else environ)
    if not visible.gpus:
        raise EnvironmentUnfitError(visible.note or "this machine has no NVIDIA GPU", hint=VIRTUAL_HINT)
    return visible


def _choose_any(gpu_memory_bytes: int | None, take: Take) -> DeviceChoice:
    if gpu_memory_bytes is not None:
        reason = "a capacity was asked for, which only a virtual card can have"
        return _choose_virtual(DEFAULT_VIRTUAL_GPU, gpu_memory_bytes, reason=reason)
    try:
        return _choose_real(None, take)
    except EnvironmentUnfitError as error:
        reason = f"no real GPU can be used: {error.message}"
        return _choose_virtual(DEFAULT_VIRTUAL_GPU, None, reason=reason)


def _choose_virtual(gpu_id: str, gpu_memory_bytes: int | None, *, reason: str) -> DeviceChoice:
    gpu = find_gpu(gpu_id)
    if gpu_memory_bytes is None:
        return DeviceChoice(kind="virtual", gpu=gpu, reason=reason)
    if gpu_memory_bytes <= gpu.context_bytes:
        raise ConfigError(
            f"a card of {format_bytes(gpu_memory_bytes)} has no room for a CUDA context",
            hint=f"that alone takes {format_bytes(gpu.context_bytes)} on {gpu.id}",
        )
    reserved_bytes = gpu.nvml_total_bytes - gpu.total_bytes
    sized = replace(gpu, total_bytes=gpu_memory_bytes, nvml_total_bytes=gpu_memory_bytes + reserved_bytes)
    reason = (
        f"{reason}; with {format_bytes(gpu_memory_bytes)} instead of its own {format_bytes(gpu.total_bytes)}"
    )
    return DeviceChoice(kind="virtual", gpu=sized, reason=reason)


def _choose_real(index: int | None, take: Take) -> DeviceChoice:
    visible = find_real_gpus()
    if index is not None and index >= len(visible.gpus):
        raise EnvironmentUnfitError(
            f"there is no GPU {index}: CUDA sees {_count(len(visible.gpus))}, numbered from 0",
            hint="`peakvram doctor` lists them; CUDA_VISIBLE_DEVICES hides the others",
        )
    if index is not None:
        gpu, reason = visible.gpus[index], f"GPU {index} was asked for"
    else:
        gpu, reason = _first_free(visible.gpus, take)
    if visible.note:
        reason = f"{reason}; {visible.note}"
    return DeviceChoice(kind="real", gpu=gpu, reason=reason)


def _first_free(gpus: tuple[RealGpu, ...], take: Take) -> tuple[RealGpu, str]:
    if len(gpus) == 1:
        return gpus[0], "the only GPU that CUDA sees"
    for gpu in gpus:
        if not find_busy(gpu) and take(gpu):
            return gpu, f"the first of {_count(len(gpus))} on which nobody else computes"
    return gpus[0], f"others compute on all {_count(len(gpus))}; this is the first"


def _count(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs"
