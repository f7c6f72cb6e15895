"""Which real cards NVML knows of, and what each is.

NVML lists whole cards in an order of its own and knows nothing of `CUDA_VISIBLE_DEVICES`; which of them a
CUDA process sees, under which index, is `profiler.hardware.visible`'s question.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pynvml

from profiler.errors import EnvironmentUnfitError
from profiler.hardware.readings import GpuReader

if TYPE_CHECKING:
    from collections.abc import Iterator

VIRTUAL_HINT = "name a card of the catalogue for a virtual one, such as --gpu rtx-4090"

# What to do about each way NVML refuses to start or to answer; the rest keeps NVML's own words.
_PROBLEMS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "no NVIDIA driver: libnvidia-ml.so.1 is not on this machine",
        f"install the NVIDIA driver, or start the container with its GPUs (--gpus all); {VIRTUAL_HINT}",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "the NVIDIA driver is installed but not running",
        f"load it (sudo modprobe nvidia) or reboot, and see that nvidia-smi works; {VIRTUAL_HINT}",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver that runs and its installed libraries are of different versions",
        "the driver was updated since the machine started: reboot; in a container, start it anew",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "no permission to ask the NVIDIA driver",
        "your user needs to read and write /dev/nvidia*; a container must be given the GPU or the MIG slice",
    ),
    pynvml.NVML_ERROR_GPU_IS_LOST: (
        "a GPU is lost: it fell off the bus or stopped answering",
        "look for Xid 79 in `dmesg`; a reboot brings it back, power or heat is the usual cause",
    ),
    pynvml.NVML_ERROR_UNKNOWN: (
        "the NVIDIA driver answered 'unknown error'",
        "a container can lose its GPUs when the host reloads its services: start it anew; else reboot",
    ),
}


class GpuLostError(EnvironmentUnfitError):
    """The card fell off the bus or stopped answering; only a reboot brings it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealGpu:
    """One card, or one MIG slice of a card, that a CUDA process can run on.

    Attributes:
        index: its number among CUDA's devices, or None where a CUDA process would not see it.
        nvml_index: the number of its card in NVML's list; never CUDA's.
        uuid: `GPU-...`, or `MIG-...` for a slice.
        name: as NVML gives it.
        pci_bus_id: of its card, as CUDA writes it: `0000:01:00.0`.
        total_bytes: its memory as NVML gives it; a slice's own. CUDA reports a little less.
        used_bytes: what was used when it was listed, the driver's own reserve left out where NVML can tell.
        compute_capability: major and minor.
        driver: the driver's version.
        mig_instance: a slice's GPU instance and compute instance, or None for a whole card.
        parent_uuid: a slice's card, or None for a whole card.
    """

    index: int | None
    nvml_index: int
    uuid: str
    name: str
    pci_bus_id: str
    total_bytes: int
    used_bytes: int
    compute_capability: tuple[int, int]
    driver: str
    mig_instance: tuple[int, int] | None = None
    parent_uuid: str | None = None

    @property
    def mig(self) -> bool:
        """Whether this is a MIG slice."""
        return self.mig_instance is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeCard:
    """One whole card as NVML lists it.

    Attributes:
        nvml_index: its number in NVML's list.
        uuid: the card's own.
        name: as NVML gives it.
        pci_bus_id: as CUDA writes it.
        compute_capability: major and minor.
        is_split: whether it is in MIG mode; then a process can run on its slices only.
        gpus: what a process can run on: the card itself, or its slices in NVML's order.
    """

    nvml_index: int
    uuid: str
    name: str
    pci_bus_id: str
    compute_capability: tuple[int, int]
    is_split: bool
    gpus: tuple[RealGpu, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What NVML lists.

    Attributes:
        cards: the cards that answer, in NVML's order.
        failures: what is wrong with each of the others.
    """

    cards: tuple[WholeCard, ...]
    failures: tuple[EnvironmentUnfitError, ...] = ()


@contextmanager
def open_nvml() -> Iterator[Nvml]:
    """NVML, for as long as the `with` block lasts; may be nested.

    Raises:
        EnvironmentUnfitError: there is no driver, it does not run, or it does not match its libraries.
        GpuLostError: a card fell off the bus, here or on the way out of the block.
    """
    with _explained():
        pynvml.nvmlInit()
    try:
        with _explained():
            yield Nvml()
    finally:
        with suppress(pynvml.NVMLError):  # nothing is left to do about a driver that fails at the end
            pynvml.nvmlShutdown()


class Nvml:
    """NVML while it is open; made by `open_nvml`."""

    def __init__(self) -> None:
        """Asks for the driver's version."""
        self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        self.cuda_version = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        """The newest CUDA the driver runs, as CUDA encodes it: 13000 is 13.0."""

    def list_cards(self) -> Listing:
        """Every card that answers, in NVML's order. One that does not, such as a lost one, hides no other.

        Raises:
            EnvironmentUnfitError: there are cards, and none of them answers.
        """
        cards: list[WholeCard] = []
        failures: list[EnvironmentUnfitError] = []
        for index in range(int(pynvml.nvmlDeviceGetCount())):
            try:
                cards.append(self._card(index))
            except pynvml.NVMLError as error:
                failures.append(explain(error))
        if failures and not cards:
            raise failures[0]
        return Listing(cards=tuple(cards), failures=tuple(failures))

    def read(self, gpu: RealGpu) -> GpuReader:
        """What `gpu` holds, to be asked again and again while NVML is open."""
        return GpuReader(pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid))

    def _card(self, nvml_index: int) -> WholeCard:
        handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
        pci = pynvml.nvmlDeviceGetPciInfo_v3(handle)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        card = WholeCard(
            nvml_index=nvml_index,
            uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
            name=str(pynvml.nvmlDeviceGetName(handle)),
            pci_bus_id=f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0",
            compute_capability=(int(major), int(minor)),
            is_split=_is_split(handle),
            gpus=(),
        )
        if card.is_split:
            slices = (self._gpu(card, part, mig_instance=_instance(part)) for part in _slices(handle))
            return replace(card, gpus=tuple(slices))
        return replace(card, gpus=(self._gpu(card, handle),))

    def _gpu(
        self, card: WholeCard, handle: object, *, mig_instance: tuple[int, int] | None = None
    ) -> RealGpu:
        """A card or a slice of it; what NVML need not tell of a slice is taken from its card."""
        memory = GpuReader(handle).memory()
        return RealGpu(
            index=None,
            nvml_index=card.nvml_index,
            uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
            name=str(pynvml.nvmlDeviceGetName(handle)),
            pci_bus_id=card.pci_bus_id,
            total_bytes=memory.total_bytes,
            used_bytes=memory.used_bytes,
            compute_capability=card.compute_capability,
            driver=self.driver,
            mig_instance=mig_instance,
            parent_uuid=card.uuid if mig_instance else None,
        )


def explain(error: pynvml.NVMLError) -> EnvironmentUnfitError:
    """What an error of NVML means to the person at the machine."""
    unlisted = (f"the NVIDIA driver failed: {error}", "see whether nvidia-smi works")
    message, hint = _PROBLEMS.get(error.value, unlisted)
    kind = GpuLostError if error.value == pynvml.NVML_ERROR_GPU_IS_LOST else EnvironmentUnfitError
    return kind(message, hint=hint)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise explain(error) from error


def _is_split(handle: object) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _slices(handle: object) -> Iterator[object]:
    """The handles of the slices that exist and that we may use; their numbers may have gaps."""
    for index in range(int(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))):
        with suppress(pynvml.NVMLError_NotFound, pynvml.NVMLError_NoPermission):
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)


def _instance(handle: object) -> tuple[int, int]:
    gpu_instance = pynvml.nvmlDeviceGetGpuInstanceId(handle)
    return int(gpu_instance), int(pynvml.nvmlDeviceGetComputeInstanceId(handle))
