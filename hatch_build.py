"""Build hook: compile the virtual GPU's library, where there is a Linux to run it on."""

from __future__ import annotations

import platform
import runpy
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class VirtualGpuBuildHook(BuildHookInterface[Any]):
    """Put the library beside its Python module; elsewhere than on Linux the package does without it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the interface
        """Compile, and give the wheel the platform's tag since it now holds a library."""
        if self.target_name != "wheel" or sys.platform != "linux":
            return
        virtual = Path(self.root) / "profiler" / "virtual"
        build = runpy.run_path(str(virtual / "build.py"))["build"]
        build(virtual / "lib")
        build_data["artifacts"].append("profiler/virtual/lib/*.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_28_{platform.machine()}"
