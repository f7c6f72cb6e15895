"""Is a real card free, so that what is read on it is the job's own?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import EnvironmentUnfitError
from profiler.hardware.catalogue import Gpu
from profiler.hardware.nvml import open_nvml
from profiler.hardware.readings import is_wsl
from profiler.units import MIB, format_bytes

if TYPE_CHECKING:
    from profiler.hardware.nvml import RealGpu
    from profiler.hardware.readings import GpuMemory, GpuProcess

UNEXPLAINED_LIMIT_BYTES = 128 * MIB
"""Used memory that no visible process accounts for, above which a hidden process is taken to hold the card.

An idle card without a screen shows 8 MiB (RTX 4090), up to 87 MiB in MIG mode (A100); the smallest CUDA
context we know of takes 256 MiB (RTX 3090). The limit lies between.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleReport:
    """What a card holds before a job starts.

    Attributes:
        baseline_bytes: used before the job; the card's used memory less this is the job's, if nobody else's
            changes.
        busy: other processes that compute on the card.
        bystanders: other processes that draw on it, such as a desktop's; normal, and part of the baseline.
        unexplained_bytes: used, and of no process the driver lists (or of one whose memory it does not tell);
            None where no process's memory is told, as under WSL.
        notes: what is worth knowing about the readings on this card.
    """

    baseline_bytes: int
    busy: tuple[GpuProcess, ...]
    bystanders: tuple[GpuProcess, ...]
    unexplained_bytes: int | None
    notes: tuple[str, ...]


def find_busy(gpu: RealGpu) -> tuple[GpuProcess, ...]:
    """The other processes that compute on `gpu`, whatever they hold: an idle one may allocate any moment.

    A desktop's processes are not among them; nor is one that both draws and computes, as browsers and
    compositors do.
    """
    return inspect_idle(gpu).busy


def check_idle(gpu: RealGpu, *, allow_busy: bool) -> IdleReport:
    """Makes sure that `gpu` is free, unless `allow_busy`.

    Raises:
        EnvironmentUnfitError: other processes compute on it, or something unseen holds memory on it.
    """
    report = inspect_idle(gpu)
    if not allow_busy and (reason := _reason_against(report)):
        raise in_use(gpu, reason)
    return report


def idle_notes(gpu: Gpu | RealGpu, *, allow_busy: bool) -> tuple[str, ...]:
    """What a result is to say of who else uses its card; a virtual one is the job's alone.

    Raises:
        EnvironmentUnfitError: as `check_idle`.
    """
    if isinstance(gpu, Gpu):
        return ()
    report = check_idle(gpu, allow_busy=allow_busy)
    if not report.busy:
        return report.notes
    pids = ", ".join(str(process.pid) for process in report.busy)
    return (f"other processes computed on the card: {pids}", *report.notes)


def in_use(gpu: RealGpu, reason: str) -> EnvironmentUnfitError:
    """The error that says by whom a card is used, and what to do."""
    where = f"GPU {gpu.index} ({gpu.name})" if gpu.index is not None else gpu.name
    return EnvironmentUnfitError(
        f"{where} is in use: {reason}",
        hint="their memory would be measured with the job's: wait, take another GPU (--gpu real:INDEX), "
        "or measure beside them with --allow-busy",
    )


def inspect_idle(gpu: RealGpu) -> IdleReport:
    """What `gpu` holds now, apart from this process."""
    with open_nvml() as nvml:
        reader = nvml.read(gpu)
        memory, processes = reader.memory(), reader.processes()
    others = [process for process in processes or () if process.pid != os.getpid()]
    return IdleReport(
        baseline_bytes=memory.used_bytes,
        busy=tuple(process for process in others if process.kind == "compute"),
        bystanders=tuple(process for process in others if process.kind == "graphics"),
        unexplained_bytes=_unexplained(memory, processes or ()),
        notes=_notes(processes),
    )


def _unexplained(memory: GpuMemory, processes: tuple[GpuProcess, ...]) -> int | None:
    known = [process.used_bytes for process in processes if process.used_bytes is not None]
    if is_wsl() or len(known) < len(processes):
        return None
    return max(0, memory.used_bytes - sum(known))


def _notes(processes: tuple[GpuProcess, ...] | None) -> tuple[str, ...]:
    if processes is None:
        return ("the driver does not list this card's processes: whether others use it is not known",)
    if is_wsl() or any(process.used_bytes is None for process in processes):
        return (
            "the driver does not tell what each process uses (WSL, Windows, some containers): "
            "the job's memory is the card's used memory less the baseline",
        )
    return ()


def _reason_against(report: IdleReport) -> str:
    if report.busy:
        return ", ".join(_describe(process) for process in report.busy)
    unexplained = report.unexplained_bytes or 0
    # Screens hold memory that belongs to no process, so it says nothing beside a desktop.
    if unexplained > UNEXPLAINED_LIMIT_BYTES and not report.bystanders:
        return f"{format_bytes(unexplained)} held by a process that this user or container cannot see"
    return ""


def _describe(process: GpuProcess) -> str:
    held = "an unknown amount" if process.used_bytes is None else format_bytes(process.used_bytes)
    return f"{process.name or 'a process'} (pid {process.pid}) holds {held}"
