"""Which torch is installed and for which CUDA it was built, found without importing it."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import EnvironmentUnfitError


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchBuild:
    """The installed torch.

    Attributes:
        version: such as `2.14.1+cu130`.
        cuda: the CUDA it was built for, such as `13.0`; None for a build without CUDA.
    """

    version: str
    cuda: str | None

    @property
    def cuda_version(self) -> int | None:
        """The CUDA it was built for, as CUDA encodes it: 13000 is 13.0."""
        if self.cuda is None:
            return None
        major, minor = self.cuda.split(".")[:2]
        return 1000 * int(major) + 10 * int(minor)


def find_torch_build() -> TorchBuild | None:
    """The torch that `import torch` would find, or None if there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    named = _string_constants(Path(spec.origin).with_name("version.py"))
    return TorchBuild(version=named.get("__version__") or "unknown", cuda=named.get("cuda"))


def check_driver(build: TorchBuild | None, *, driver: str, driver_cuda_version: int) -> None:
    """Makes sure that this torch can run on this driver.

    A driver runs every CUDA of its own major version and of those before (CUDA Compatibility guide, minor
    version compatibility).

    Raises:
        EnvironmentUnfitError: there is no torch, it has no CUDA, or the driver is too old for it.
    """
    if build is None:
        raise EnvironmentUnfitError("torch is not installed", hint="pip install torch")
    if build.cuda is None or build.cuda_version is None:
        raise EnvironmentUnfitError(
            f"torch {build.version} is built without CUDA",
            hint="install the CUDA build, as `pip install torch` gives on Linux",
        )
    if driver_cuda_version // 1000 < build.cuda_version // 1000:
        newest = f"{driver_cuda_version // 1000}.{driver_cuda_version % 1000 // 10}"
        raise EnvironmentUnfitError(
            f"the NVIDIA driver {driver} is too old: it runs CUDA up to {newest}, "
            f"and torch {build.version} needs CUDA {build.cuda}",
            hint=f"update the driver, or install a torch built for CUDA {driver_cuda_version // 1000}",
        )


def _string_constants(path: Path) -> dict[str, str]:
    """The names a module sets to plain strings."""
    found: dict[str, str] = {}
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        target: ast.expr | None = None
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        value = getattr(statement, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            found[target.id] = value.value
    return found
