"""Which models are shipped as presets, and what is known of each without loading it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter, ValidationError

from profiler.errors import ConfigError
from profiler.jobs.load import read_yaml
from profiler.resources import configs_dir
from profiler.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEADS = ("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads")
_FORMAT_HINT = "a Hugging Face config.json is one JSON object"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureSummary:
    """The figures a reader compares models by; heads are those of softmax attention."""

    model_type: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A shipped model: its config needs no download.

    Attributes:
        id: its name in a job.
        hub_id: the Hub repository its pretrained weights come from.
        aliases: further Hub ids of the same shapes.
        num_parameters: the published count; a tensor shared by two modules counts once.
        license: the name its repository gives the licence of the weights.
        config_path: its config, in Hugging Face format.
        config_source: where the figures of the config were read.
        count_source: where the count was read.
        note: what a reader might take for a mistake; empty for most.
    """

    id: str
    hub_id: str
    aliases: tuple[str, ...]
    num_parameters: int
    architecture: ArchitectureSummary
    license: str
    config_path: Path
    config_source: str
    count_source: str
    note: str

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Every Hub id that stands for this preset."""
        return (self.hub_id, *self.aliases)


class _PresetEntry(Value):
    """One entry of `configs/models/index.yaml`."""

    hub_id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    num_parameters: Annotated[int, Field(strict=True, ge=1)]
    license: Annotated[str, Field(min_length=1)]
    aliases: tuple[str, ...] = ()
    config_source: Annotated[str, Field(min_length=1)]
    count_source: Annotated[str, Field(min_length=1)]
    note: str = ""


def list_presets() -> tuple[Preset, ...]:
    """The shipped models, in the order of `configs/models/index.yaml`."""
    return read_presets(configs_dir() / "models")


@cache
def read_presets(directory: Path) -> tuple[Preset, ...]:
    """Reads the presets of a directory: `index.yaml`, and `<id>.json` for each of its entries.

    Raises:
        ConfigError: if the index or a config cannot be read, or two presets share a Hub id.
    """
    path = directory / "index.yaml"
    entries = _read_index(path)
    _refuse_shared_names(entries, path=path)
    return tuple(_make_preset(name, entry, directory=directory) for name, entry in entries.items())


def read_config_file(path: Path) -> dict[str, object]:
    """Reads a model's config in Hugging Face format; nothing of it but `model_type` is checked.

    Raises:
        ConfigError: if the file cannot be read, is not a JSON object, or names no model type.
    """
    config = _read_json(path)
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no JSON object", hint=_FORMAT_HINT)
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise ConfigError(
            f"{path} names no model_type", hint='add the architecture, such as "model_type": "llama"'
        )
    return config


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{path} is not JSON: {error.msg} ({where})", hint=_FORMAT_HINT) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", hint=_FORMAT_HINT) from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply", hint=_FORMAT_HINT) from None
    except ValueError:  # Python reads no number of thousands of digits
        raise ConfigError(f"{path} holds a number that is too long", hint=_FORMAT_HINT) from None
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise ConfigError(f"cannot read {path}: {reason}", hint="check the path and its rights") from None


def _read_index(path: Path) -> dict[str, _PresetEntry]:
    try:
        return TypeAdapter(dict[str, _PresetEntry]).validate_python(read_yaml(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: {where}: {first['msg']}", hint="its first lines say what each key is"
        ) from None


def _refuse_shared_names(entries: Mapping[str, _PresetEntry], *, path: Path) -> None:
    owners: dict[str, str] = {}
    for preset_id, entry in entries.items():
        for hub_id in (entry.hub_id, *entry.aliases):
            owner = owners.setdefault(hub_id, preset_id)
            if owner != preset_id:
                raise ConfigError(f"{path}: {hub_id} belongs to {owner} and to {preset_id}", hint="keep one")


def _make_preset(preset_id: str, entry: _PresetEntry, *, directory: Path) -> Preset:
    path = directory / f"{preset_id}.json"
    return Preset(
        id=preset_id,
        architecture=_summarize(read_config_file(path), path=path),
        config_path=path,
        **entry.model_dump(),
    )


def _summarize(config: Mapping[str, object], *, path: Path) -> ArchitectureSummary:
    """The figures of a model, or of its language model where it has encoders of images or sound besides."""
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    num_heads = _read_count(text, *_HEADS, path=path)
    has_kv_heads = text.get("num_key_value_heads") is not None
    return ArchitectureSummary(
        model_type=str(config["model_type"]),
        num_layers=_read_count(text, "num_hidden_layers", "n_layer", "num_layers", path=path),
        hidden_size=_read_count(text, "hidden_size", "n_embd", "d_model", path=path),
        num_heads=num_heads,
        num_kv_heads=_read_count(text, "num_key_value_heads", path=path) if has_kv_heads else num_heads,
        vocab_size=_read_count(text, "vocab_size", path=path),
    )


def _read_count(config: Mapping[str, object], *names: str, path: Path) -> int:
    """The first of the names that is there: GPT-2, T5 and BART call their figures otherwise."""
    value = next((config[name] for name in names if name in config), None)
    if not isinstance(value, int) or value < 1:
        raise ConfigError(f"{path} gives no {names[0]}", hint="a preset gives it as a whole number above 0")
    return value
