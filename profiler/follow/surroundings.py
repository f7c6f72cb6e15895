"""What a followed command finds around it: its card, and the hook that each of its Python processes runs."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.follow import hook
from profiler.follow.processes import VARIABLE
from profiler.hardware.catalogue import Gpu
from profiler.process.leases import LEASE_VARIABLE
from profiler.resources import PACKAGE_ROOT
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from profiler.hardware.discovery import DeviceChoice
    from profiler.virtual.routing import Routing
    from profiler.virtual.state import Machine


_SAME_EVERY_TIME = {
    # With threads, transformers loads weights in an order that differs from run to run.
    "HF_DEACTIVATE_ASYNC_LOAD": "1",
    "PYTHONHASHSEED": "0",  # the order of sets, and when garbage is collected
}
"""On a virtual card, unless the caller has set them: the same command gives the same bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A private directory, and the environment of a command that is followed from it.

    Attributes:
        reports: where each process leaves what it found.
        machine: of the virtual card; None on a real one.
        uuid: of the real card; None on a virtual one.
        variables: the command's environment.
    """

    reports: Path
    machine: Machine | None
    variables: dict[str, str]
    uuid: str | None = None

    @property
    def wanted(self) -> dict[str, str]:
        """What must be left of the environment for a process to see its card, each at its value's start."""
        wanted = {VARIABLE: self.variables[VARIABLE]}
        return wanted if self.machine is None else wanted | {"LD_PRELOAD": str(self.machine.library)}


def lay_out(
    directory: Path,
    choice: DeviceChoice,
    *,
    base: Mapping[str, str],
    stop_after: int | None,
    routing: Routing,
) -> Surroundings:
    """Lay everything out in an existing, private directory.

    Args:
        directory: to be removed once the command has ended; nothing is left elsewhere.
        choice: the card.
        base: the environment of the caller.
        stop_after: how many optimizer steps a process may do; None for as many as it likes.
        routing: where routers are taken to send tokens, on a virtual card.

    Raises:
        EnvironmentUnfitError: a virtual GPU cannot work here.
    """
    site, reports = directory / "site", directory / "reports"
    for made in (site, reports):
        made.mkdir()
    settings = {
        "root": str(PACKAGE_ROOT),
        "reports": str(reports),
        "kind": choice.kind,
        "stop_after": stop_after,
        "routing": str(routing),
        "visible": None if isinstance(choice.gpu, Gpu) else choice.gpu.uuid,
    }
    (site / "settings.json").write_text(json.dumps(settings))
    shutil.copyfile(hook.__file__, site / "sitecustomize.py")
    paths = filter(None, (str(site), base.get("PYTHONPATH")))
    followed = {**base, "PYTHONPATH": os.pathsep.join(paths), VARIABLE: str(directory)}
    if not isinstance(choice.gpu, Gpu):
        variables = followed | {"CUDA_VISIBLE_DEVICES": choice.gpu.uuid, LEASE_VARIABLE: choice.gpu.uuid}
        return Surroundings(reports=reports, machine=None, variables=variables, uuid=choice.gpu.uuid)
    machine = launch_machine(directory / "machine", choice.gpu)
    return Surroundings(
        reports=reports, machine=machine, variables=machine.environment(_SAME_EVERY_TIME | followed)
    )
