"""What a model's name in a job stands for: a preset, a local directory or a repository on the Hub."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from profiler.errors import ConfigError
from profiler.jobs.choices import Weights
from profiler.jobs.presets import Preset, list_presets, read_config_file

__all__ = [
    "ModelSource",
    "Preset",
    "SourceKind",
    "find_presets",
    "list_presets",
    "near_presets",
    "read_config",
    "resolve_model",
]

SourceKind: TypeAlias = Literal["preset", "directory", "hub"]

# The Hub's own rule (huggingface_hub, validate_repo_id), with the owner not left out.
_HUB_PART = r"\b[\w.-]{1,96}\b"
_HUB_ID = re.compile(rf"(?!.*(?:--|\.\.|\.git$)){_HUB_PART}/{_HUB_PART}", re.ASCII)
_HUB_URL = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<hub_id>[^/?#]+/[^/?#]+)")
_MAX_NEAR = 3
_MAX_SLUG_CHARACTERS = 96  # of the 255 bytes of a file name, which has other parts besides


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model's config, and its weights if they are pretrained, come from.

    Attributes:
        kind: what the name stands for.
        id: the model in short, fit for a file name.
        location: the path of the preset's config, the path of the directory, or the Hub id.
        revision: the Hub revision asked for; None for its default branch, and for anything local.
        hub_id: the Hub repository of the model; None for a directory.
        reason: why the name was read so.
    """

    kind: SourceKind
    id: str
    location: str
    revision: str | None
    hub_id: str | None
    reason: str


def resolve_model(name: str, *, weights: Weights, revision: str | None = None) -> ModelSource:
    """Finds what a model's name stands for, without asking the Hub.

    A directory with a config.json comes first, then a preset by its id or one of its Hub ids, then the Hub.
    A preset saves fetching a config, so it answers for random weights without a revision only.

    Raises:
        ConfigError: if the name stands for nothing, or for something that has no revisions.
    """
    directory = _find_directory(name)
    if directory is not None and _is_file(directory / "config.json"):
        return _directory_source(directory, name=name, revision=revision)
    preset = next((preset for preset in list_presets() if name in (preset.id, *preset.hub_ids)), None)
    if preset is not None:
        return _preset_source(preset, name=name, weights=weights, revision=revision)
    if directory is not None:
        raise _no_config(directory, name=name)
    if _HUB_ID.fullmatch(name) and not _is_file(name):
        return _hub_source(name, revision=revision, reason=f"{name} has the form of a Hub id")
    raise _unknown(name)


def read_config(source: ModelSource) -> dict[str, object]:
    """Reads the config of a preset or a directory; that of a Hub repository is the worker's to fetch.

    Raises:
        ConfigError: if the file cannot be read, is not a JSON object, or names no model type.
    """
    assert source.kind != "hub", "a Hub repository has no local config"
    path = Path(source.location)
    return read_config_file(path / "config.json" if source.kind == "directory" else path)


def find_presets(text: str) -> Preset | tuple[Preset, ...]:
    """The preset of an id or Hub id, or else all that have the text in an id, a Hub id or their family.

    Raises:
        ConfigError: none has it; the hint names those that may have been meant.
    """
    presets, low = list_presets(), text.lower()
    named = next((one for one in presets if low in _names(one)), None)
    if named is not None:
        return named
    found = tuple(
        one
        for one in presets
        if any(low in name for name in (*_names(one), one.architecture.model_type.lower()))
    )
    if not found:
        near = near_presets(text.rpartition("/")[2])
        hint = f"did you mean {' or '.join(near)}?" if near else "`peakvram models` lists all"
        raise ConfigError(f"no model preset has {text!r:.80} in its id, Hub ids or family", hint=hint)
    return found


def _names(preset: Preset) -> tuple[str, ...]:
    return (preset.id, *(hub_id.lower() for hub_id in preset.hub_ids))


def near_presets(name: str) -> list[str]:
    """The presets that may have been meant by a name that is none of theirs: those it begins come first."""
    ids, low = [preset.id for preset in list_presets()], name.lower()
    begun = [preset_id for preset_id in ids if low and preset_id.startswith(low)]
    return [*dict.fromkeys([*begun, *difflib.get_close_matches(low, ids, n=_MAX_NEAR)])][:_MAX_NEAR]


def _directory_source(directory: Path, *, name: str, revision: str | None) -> ModelSource:
    if revision is not None:
        raise ConfigError(f"directory {name} has no revisions", hint="drop the revision, or name a Hub id")
    absolute = directory.resolve()
    return ModelSource(
        kind="directory",
        id=_slug(absolute.name),
        location=str(absolute),
        revision=None,
        hub_id=None,
        reason=f"{name} is a directory with a config.json",
    )


def _preset_source(preset: Preset, *, name: str, weights: Weights, revision: str | None) -> ModelSource:
    is_id = name == preset.id
    hub_id = preset.hub_id if is_id else name
    if weights is Weights.PRETRAINED:
        source = _hub_source(hub_id, revision=revision, reason="pretrained weights come from the Hub")
        return replace(source, id=preset.id) if is_id else source
    if revision is None:
        return ModelSource(
            kind="preset",
            id=preset.id,
            location=str(preset.config_path),
            revision=None,
            hub_id=hub_id,
            reason=f"{name} is a preset" if is_id else f"{name} has the shapes of preset {preset.id}",
        )
    if is_id:
        raise ConfigError(f"preset {name} has no revisions", hint=f"drop the revision, or name {hub_id}")
    return _hub_source(hub_id, revision=revision, reason="the config of a revision comes from the Hub")


def _hub_source(hub_id: str, *, revision: str | None, reason: str) -> ModelSource:
    return ModelSource(
        kind="hub", id=_slug(hub_id), location=hub_id, revision=revision, hub_id=hub_id, reason=reason
    )


def _find_directory(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError):  # longer than a path may be, not ours to look into, or no such user
        return None


def _no_config(directory: Path, *, name: str) -> ConfigError:
    if _is_file(directory / "adapter_config.json"):
        hint = "it holds an adapter: name the model that the adapter belongs to"
    else:
        hint = "model.save_pretrained(...) writes one; a Hub id has the form org/name"
    return ConfigError(f"directory {name} has no config.json", hint=hint)


def _unknown(name: str) -> ConfigError:
    shown = f"{name!r:.80}"
    url = _HUB_URL.match(name)
    if url:
        return ConfigError(f"{shown} is an address, not a model", hint=f"write {url['hub_id']}")
    if _is_file(name):
        return ConfigError(f"{shown} is a file", hint="name the directory that holds the model's config.json")
    if name.startswith(("/", "./", "../", "~")):
        return ConfigError(f"there is no directory {shown}", hint="check the path")
    near = near_presets(name)
    if near:
        return ConfigError(f"unknown model {shown}", hint=f"did you mean {' or '.join(near)}?")
    hint = "name a preset (`peakvram models` lists them), a Hub id such as org/name, or a directory"
    return ConfigError(f"unknown model {shown}", hint=hint)


def _is_file(name: str | Path) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, RuntimeError):  # as in _find_directory
        return False


def _slug(text: str) -> str:
    """The text in the characters that are safe in a file name, with no run of hyphens."""
    safe = re.sub(r"[^a-z0-9._]+", "-", text.lower())[:_MAX_SLUG_CHARACTERS]
    return safe.strip("-.") or "model"
