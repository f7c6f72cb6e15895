"""Which architecture's kernels each virtual card reports to run: CUB asks it of a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.virtual.torch_private import ARCHITECTURES

if TYPE_CHECKING:
    from profiler.virtual.state import StateLayout


def set_architectures(state: StateLayout) -> None:
    """Have each card report the newest architecture of the wheel that it can run: 86 on an 8.9 card.

    CUB fails where the wheel was not built for the answer.
    """
    for index in range(state.num_devices):
        device = state.devices[index]
        device.ptx_version = _newest_runnable(device.cc_major, device.cc_minor)


def _newest_runnable(major: int, minor: int) -> int:
    """The newest architecture of the wheel that a card of this compute capability can run.

    A cubin runs on its own major version with an equal or higher minor one (CUDA programming guide, "Binary
    Compatibility"). Once asked, torch works in no fork of this process.
    """
    flags = ARCHITECTURES.find()() or ""
    built = [int(flag.removeprefix("sm_").rstrip("af")) for flag in flags.split() if flag.startswith("sm_")]
    runnable = [arch for arch in built if arch // 10 == major and arch % 10 <= minor]
    return max(runnable, default=10 * major + minor)
