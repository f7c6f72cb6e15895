"""Where an exception of the libraries came from, in words, and what may get round it."""

from __future__ import annotations

import re
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import torch

from profiler.text import HINT, RAISED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_PACKAGE_FILE = re.compile(r".*/(?:site|dist)-packages/(?P<path>(?P<package>\w+)/.*)")
_BENEATH = ("torch", "profiler")
"""What is seldom to blame where another library is on the way: the one that was called, and our own."""
_MAX_NAMES = 12


def describe_error(error: BaseException) -> str:
    """An error in lines: its type and words, who raised it at which module of the model, a hint if any."""
    frames = list(traceback.walk_tb(error.__traceback__))
    lines = [f"{type(error).__name__}: {error}"]
    if said := _where(frames):
        lines.append(said)
    if hint := _hint(frames):
        lines.append(f"{HINT}{hint}")
    return "\n".join(lines)


def _where(frames: list[tuple[FrameType, int]]) -> str:
    """The library whose line raised, and the module of the model that it was computing; empty for none."""
    place = _place_to_blame(frames)
    if place is None:
        return ""
    package, path, line, function = place
    at = _module_at([frame for frame, _ in frames])
    return f"{RAISED}{_with_version(package)}, {path}:{line} ({function}){f', at {at}' if at else ''}"


def _place_to_blame(frames: list[tuple[FrameType, int]]) -> tuple[str, str, int, str] | None:
    """The innermost line of a library: its package, file, number and function."""
    found = [
        (match["package"], match["path"], line, frame.f_code.co_name)
        for frame, line in frames
        if (match := _PACKAGE_FILE.fullmatch(frame.f_code.co_filename)) is not None
    ]
    to_blame = [place for place in found if place[0] not in _BENEATH]
    return next(reversed(to_blame or found), None)


def _module_at(frames: list[FrameType]) -> str:
    """The innermost module of the model that was being computed, or given adapters, by its path."""
    key = next(
        (key for frame in reversed(frames) if isinstance(key := _local(frame, "current_key"), str)), None
    )
    if key is not None:
        return key
    modules = list(_modules(frames))
    if not modules:
        return ""
    kind = type(modules[-1]).__name__
    path = _path_of(modules[-1], modules[0])
    return f"{path} ({kind})" if path else kind


def _hint(frames: list[tuple[FrameType, int]]) -> str:
    """What may get round the error, where it shows in what was at work; empty for nothing."""
    place = _place_to_blame(frames)
    if place is None or place[0] != "peft":
        return ""
    modules = list(_modules([frame for frame, _ in frames]))
    adapted = next((module for module in reversed(modules) if _is_adapted(module)), None)
    if adapted is None:
        return "name other modules with --targets, such as q_proj,v_proj"
    return _other_targets(_path_of(adapted, modules[0]).rpartition(".")[2], modules[0])


def _other_targets(name: str, root: torch.nn.Module) -> str:
    """The modules that adapters may go to, without those of a name that cannot be computed with one."""
    named = {path.rpartition(".")[2] for path, module in root.named_modules() if _is_adapted(module)}
    others = sorted(named - {name})
    if not name or not others:
        return "choose other --targets, or --method full"
    return f"choose --targets {','.join(others[:_MAX_NAMES])}, which leaves out {name}"


def _is_adapted(module: torch.nn.Module) -> bool:
    return type(module).__module__.startswith("peft.") and hasattr(module, "lora_A")


def _modules(frames: list[FrameType]) -> Iterator[torch.nn.Module]:
    """Those whose methods were being called, the outermost first."""
    for frame in frames:
        own = _local(frame, "self")
        if isinstance(own, torch.nn.Module):
            yield own


def _path_of(module: torch.nn.Module, root: torch.nn.Module) -> str:
    """A module's path below another one, without what peft puts before it."""
    path = next((path for path, each in root.named_modules() if each is module), "")
    return path.removeprefix("base_model.model.")


def _local(frame: FrameType, name: str) -> object:
    return frame.f_locals.get(name)


def _with_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # a distribution of another name
        return package
