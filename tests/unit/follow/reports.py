"""Small values for tests of followed commands."""

from __future__ import annotations

from typing import Any

from profiler.follow.gather import Gathered
from profiler.follow.result import CommandResult, PartEnd, ProcessReport
from profiler.follow.seen import CommandEnd
from profiler.units import GIB
from tests.builders import AT, a_device

PARTS = ("setup", "forward", "backward", "clip", "step")


def a_process(**changes: Any) -> ProcessReport:
    """A process that trained two steps and allocated most in the backward pass of step 1."""
    values: dict[str, Any] = {
        "pid": 4711,
        "command": ("python", "train.py"),
        "versions": {"python": "3.11.7", "torch": "2.14.1+cu130"},
        "cuda": "13.0",
        "allocated_bytes": 6 * GIB,
        "reserved_bytes": 11 * GIB,
        "allocated_peak_bytes": 10 * GIB,
        "reserved_peak_bytes": 11 * GIB,
        "num_alloc_retries": 0,
        "num_ooms": 0,
        "device_used_bytes": 12 * GIB,
        "num_steps": 2,
        "marks": (
            *(a_mark(part, 0, peak=(5 + i) * GIB) for i, part in enumerate(PARTS)),
            a_mark("forward", 1, peak=9 * GIB),
            a_mark("backward", 1, peak=10 * GIB),
            a_mark("step", 1, peak=10 * GIB),
        ),
        "ending": {"kind": "exit"},
        "exit_status": 0,
        "reads": {"decisions": 0, "others": 4},
    }
    return ProcessReport.model_validate(values | changes)


def a_mark(part: str, step: int, *, peak: int) -> PartEnd:
    values: dict[str, Any] = {
        "part": part,
        "step": step,
        "allocated_bytes": 5 * GIB,
        "reserved_bytes": peak,
        "allocated_peak_bytes": peak,
        "reserved_peak_bytes": peak + GIB,
    }
    return PartEnd.model_validate(values)


def a_result(
    *processes: ProcessReport,
    ended: CommandEnd | None = None,
    found: dict[str, Any] | None = None,
    **told: Any,
) -> CommandResult:
    """What `python train.py` gave on a virtual card that was filled to 12 GiB."""
    values: dict[str, Any] = {"device_used_bytes": 12 * GIB, **(found or {})}
    return Gathered(end=ended or CommandEnd(pid=4711, exit_code=0), processes=processes, **values).to_result(
        command=("python", "train.py", "--name", "my run"), created_at=AT, device=a_device(), **told
    )
