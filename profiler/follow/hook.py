"""What each Python process of a followed command runs first, in place of its own `sitecustomize`.

This file is copied under that name into a directory at the front of the command's PYTHONPATH, beside
`settings.json`. It waits for torch: a process that never imports it pays for one more look on import. The
`sitecustomize` that the process would have found without us runs as ever, and takes this one's place.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PACKAGE = "profiler"
_AGENT = f"{_PACKAGE}.follow.agent"
_VARIABLE = "PEAKVRAM_FOLLOW"
"""As `profiler.follow.processes` has it: the directory of the run that this process belongs to."""


def start(directory: Path) -> None:
    """Follow this process from the moment it has imported torch.

    Args:
        directory: of this file's copy, with `settings.json`.
    """
    settings = json.loads((directory / "settings.json").read_text())
    sys.meta_path.insert(0, _Watch(settings))


class _Watch:
    """Finds nothing itself; has the agent begin once torch has been executed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._is_looking = False

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real specification of torch, its loader made to tell; None for all else."""
        if name != "torch" or self._is_looking:
            return None
        self._is_looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_looking = False
        if spec is not None and spec.loader is not None:
            self._tell_of(spec.loader)
        return spec

    def _tell_of(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            execute(module)
            _begin(self._settings)

        loader.exec_module = exec_module


def _begin(settings: Mapping[str, Any]) -> None:
    try:
        agent = _import_aside(_AGENT, root=Path(settings["root"]))
        agent.begin(settings)
    except Exception as error:  # the command goes on, unfollowed; whoever asked is told why
        told = f"process {os.getpid()} was not followed: {type(error).__name__}: {error}"
        (Path(settings["reports"]) / f"{os.getpid()}.problem").write_text(told)


def _import_aside(name: str, *, root: Path) -> Any:
    """Import a module of our package without a trace in `sys.modules` or `sys.path`.

    The command may have a package of the same name, or of another version: it finds that one, as without us.
    """
    theirs = _take_modules()
    try:
        package = root / _PACKAGE
        places = [str(package)]
        spec = importlib.util.spec_from_file_location(
            _PACKAGE, package / "__init__.py", submodule_search_locations=places
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{package} is no package")
        module = importlib.util.module_from_spec(spec)
        sys.modules[_PACKAGE] = module
        spec.loader.exec_module(module)
        return importlib.import_module(name)
    finally:
        _take_modules()
        sys.modules.update(theirs)


def _take_modules() -> dict[str, ModuleType]:
    """Remove every module of a package of our name from `sys.modules`, and return them."""
    names = [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}


if __name__ == "sitecustomize":
    _directory = Path(__file__).parent
    if os.environ.get(_VARIABLE, str(_directory.parent)) == str(_directory.parent):
        start(_directory)  # else it is followed from within: a run that was started in this one
    sys.path[:] = [entry for entry in sys.path if entry != str(_directory)]
    # Where there is none, the ImportError says so, and Python passes over it as ever.
    del sys.modules["sitecustomize"]
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401 - the script's own, for what it does
