"""What is to be known of this machine's driver and real GPUs, for `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.doctor.checks import Check, Status, fail, ok, warn
from profiler.errors import EnvironmentUnfitError
from profiler.hardware.idle import inspect_idle
from profiler.hardware.nvml import open_nvml
from profiler.hardware.readings import is_wsl, sees_host_pids
from profiler.hardware.torch_build import check_driver, find_torch_build
from profiler.hardware.visible import find_visible, match_by_uuid
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.hardware.idle import IdleReport
    from profiler.hardware.nvml import Listing, Nvml, RealGpu
    from profiler.hardware.visible import VisibleGpus


def check_gpus(environ: Mapping[str, str]) -> tuple[Check, ...]:
    """The driver, then each card and slice. No driver is no failure: virtual GPUs need none."""
    try:
        with open_nvml() as nvml:
            driver, listing = _check_driver(nvml), nvml.list_cards()
    except EnvironmentUnfitError as error:
        return (warn("driver", error.message, hint=error.hint),)
    visible = find_visible(listing.cards, environ)
    return (
        driver,
        *_check_place(),
        *_check_listing(listing, visible),
        *(_check_gpu(gpu, visible) for card in listing.cards for gpu in card.gpus),
    )


def _check_driver(nvml: Nvml) -> Check:
    newest = f"{nvml.cuda_version // 1000}.{nvml.cuda_version % 1000 // 10}"
    detail = f"NVIDIA {nvml.driver}, CUDA up to {newest}"
    try:
        check_driver(find_torch_build(), driver=nvml.driver, driver_cuda_version=nvml.cuda_version)
    except EnvironmentUnfitError as error:
        return fail("driver", f"{detail}: {error.message}", hint=error.hint)
    return ok("driver", detail)


def _check_place() -> tuple[Check, ...]:
    """WSL and containers change what NVML can tell."""
    if is_wsl():
        detail = "WSL: Windows manages the card's memory, and may spill to system memory instead of failing"
        hint = "what one process uses is not told; readings are of the whole card"
        return (warn("system", detail, hint=hint),)
    if not sees_host_pids():
        detail = "a container with process ids of its own: NVML may give the host's"
        hint = "readings fall back to the whole card; start it with --pid=host to see single processes"
        return (warn("system", detail, hint=hint),)
    return ()


def _check_listing(listing: Listing, visible: VisibleGpus) -> tuple[Check, ...]:
    checks = [fail("gpu", failure.message, hint=failure.hint) for failure in listing.failures]
    if not listing.cards:
        checks.append(warn("gpu", "the driver knows of no GPU"))
    if visible.note:
        checks.append(warn("cuda order", visible.note))
    return tuple(checks)


def _check_gpu(gpu: RealGpu, visible: VisibleGpus) -> Check:
    seen = match_by_uuid(visible.gpus, gpu.uuid)
    name = "gpu (hidden)" if seen is None else f"gpu {seen.index}"
    try:
        report = inspect_idle(gpu)
    except EnvironmentUnfitError as error:
        return fail(name, f"{gpu.name}: {error.message}", hint=error.hint)
    detail = "; ".join(_describe(gpu, report))
    if not report.busy and not report.notes:
        return ok(name, detail)
    status = Status.OK if seen is None else Status.WARN  # what is hidden from jobs does not disturb them
    return Check(name=name, status=status, detail=detail, hint=_hint(report))


def _describe(gpu: RealGpu, report: IdleReport) -> list[str]:
    major, minor = gpu.compute_capability
    parts = [
        gpu.name,
        f"{format_bytes(report.baseline_bytes)} of {format_bytes(gpu.total_bytes)} used",
        f"compute capability {major}.{minor}",
        f"bus {gpu.pci_bus_id}",
    ]
    if gpu.mig:
        parts.append("a MIG slice")
    for who, processes in (("computing", report.busy), ("drawing", report.bystanders)):
        if processes:
            pids = ", ".join(f"{process.name or 'pid'} {process.pid}" for process in processes)
            parts.append(f"others {who}: {pids}")
    is_told = "not told" if report.notes else "told"
    return [*parts, f"memory of each process: {is_told}"]


def _hint(report: IdleReport) -> str:
    if report.busy:
        return "a job on this card would be measured with the others' memory; it needs --allow-busy"
    return "; ".join(report.notes)
