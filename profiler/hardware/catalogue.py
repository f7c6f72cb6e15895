"""Which GPUs are known, and what is known of each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from profiler.errors import ConfigError, EnvironmentUnfitError
from profiler.hardware.sheet import KNOWN, UNKNOWN, Context, Generation, Known, Sheet, Unknown
from profiler.jobs.yaml_text import YamlError, parse_yaml
from profiler.resources import configs_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

_GUIDE = "docs/gpus.md says what a GPU file holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a card as its file gives it, for display.

    Attributes:
        name: the figure's key in the file.
        value: the figure, or None where it is not known.
        source: the public place it was read, or None where it is not known.
        reason: why it is not known, or None where it is.
        note: how exact it is, and what other sources say.
    """

    name: str
    value: int | str | None
    source: str | None = None
    reason: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One card of the catalogue. `Sheet` defines each figure.

    Attributes:
        id: the catalogue id, such as `rtx-4090`.
        name: the name CUDA reports.
        generation: the architecture.
        marketing_bytes: the size on the box.
        total_bytes: the total memory CUDA reports.
        nvml_total_bytes: the total memory NVML reports; where that is not known, `total_bytes`, which
            amounts to a driver that reserves nothing (`figures` tells the two cases apart).
        compute_capability: major and minor.
        num_sms: streaming multiprocessors.
        max_shared_memory_per_block_optin_bytes: shared memory one block may ask for.
        shared_memory_per_sm_bytes: shared memory of one multiprocessor.
        l2_cache_bytes: the level-2 cache, or None where it is not known.
        max_threads_per_sm: resident threads of one multiprocessor.
        max_blocks_per_sm: resident blocks of one multiprocessor.
        memory_bus_width_bits: the memory bus, or None where it is not known.
        context_bytes: what the CUDA context is taken to use.
        context_low_bytes: the low end of its spread.
        context_high_bytes: the high end of its spread.
        context_is_measured: whether `context_bytes` was read on this very card; else it is an assumption.
        figures: every figure with its source, in the order of the file.
    """

    id: str
    name: str
    generation: Generation
    marketing_bytes: int
    total_bytes: int
    nvml_total_bytes: int
    compute_capability: tuple[int, int]
    num_sms: int
    max_shared_memory_per_block_optin_bytes: int
    shared_memory_per_sm_bytes: int
    l2_cache_bytes: int | None
    max_threads_per_sm: int
    max_blocks_per_sm: int
    memory_bus_width_bits: int | None
    context_bytes: int
    context_low_bytes: int
    context_high_bytes: int
    context_is_measured: bool
    figures: tuple[Figure, ...]


def find_gpu(gpu_id: str) -> Gpu:
    """The card of the shipped catalogue with this id.

    Raises:
        ConfigError: if there is none; the hint names the nearest id.
    """
    catalogue = load_catalogue()
    if gpu_id in catalogue:
        return catalogue[gpu_id]
    meant = _did_you_mean(gpu_id.lower(), list(catalogue))
    raise ConfigError(f"unknown GPU {gpu_id!r}", hint=f"{meant}`peakvram gpus` lists the known ones")


@cache
def load_catalogue() -> Mapping[str, Gpu]:
    """The shipped catalogue by id, the smallest memory first; read once a process."""
    return read_catalogue(configs_dir() / "gpus")


def read_catalogue(directory: Path) -> Mapping[str, Gpu]:
    """The catalogue a directory holds, one `<id>.yaml` a card, the smallest memory first.

    Raises:
        ConfigError: if a file is no YAML or does not say what a GPU file must; it names the file and the
            path inside it.
        EnvironmentUnfitError: if the directory holds no GPU file at all.
    """
    gpus = [_gpu(path.stem, _read_sheet(path)) for path in directory.glob("*.yaml")]
    if not gpus:
        raise EnvironmentUnfitError(
            f"no GPU files in {directory}", hint="the installation is incomplete; install peakvram again"
        )
    gpus.sort(key=lambda gpu: (gpu.total_bytes, gpu.id))
    return MappingProxyType({gpu.id: gpu for gpu in gpus})


def _read_sheet(path: Path) -> Sheet:
    try:
        return Sheet.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: not UTF-8 text", hint=_GUIDE) from error
    except YamlError as error:
        raise ConfigError(f"{path}: not valid YAML{error.place}: {error.problem}", hint=_GUIDE) from error
    except ValidationError as error:
        raise _refusal(path, error.errors()[0]) from error


def _refusal(path: Path, detail: ErrorDetails) -> ConfigError:
    keys = [str(key) for key in detail["loc"] if key not in (KNOWN, UNKNOWN)]
    problem = detail["msg"].removeprefix("Value error, ")
    where = ".".join(keys) or "the whole file"
    match detail["type"]:
        case "missing":
            return ConfigError(f"{path}: {where}: is missing", hint=_GUIDE)
        case "extra_forbidden":
            meant = _did_you_mean(keys[-1], list(Sheet.model_fields) + list(Context.model_fields))
            return ConfigError(f"{path}: {where}: unknown key", hint=meant + _GUIDE)
        case "model_type":
            return ConfigError(f"{path}: {where}: must be an object, not a bare value", hint=_GUIDE)
        case _ if keys == ["compute_capability", "value"]:
            quoted = 'write it in quotes, such as "8.0": without them YAML reads a number'
            return ConfigError(f"{path}: {where}: {problem}", hint=quoted)
        case _:
            return ConfigError(f"{path}: {where}: {problem}", hint=_GUIDE)


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}? " if nearest else ""


def _gpu(gpu_id: str, sheet: Sheet) -> Gpu:
    major, minor = sheet.compute_capability.value.split(".")
    return Gpu(
        id=gpu_id,
        name=sheet.marketing_name.value,
        generation=sheet.generation.value,
        marketing_bytes=sheet.marketing_bytes.value,
        total_bytes=sheet.total_bytes.value,
        nvml_total_bytes=sheet.nvml_total_bytes.value or sheet.total_bytes.value,
        compute_capability=(int(major), int(minor)),
        num_sms=sheet.num_sms.value,
        max_shared_memory_per_block_optin_bytes=sheet.max_shared_memory_per_block_optin_bytes.value,
        shared_memory_per_sm_bytes=sheet.shared_memory_per_sm_bytes.value,
        l2_cache_bytes=sheet.l2_cache_bytes.value,
        max_threads_per_sm=sheet.max_threads_per_sm.value,
        max_blocks_per_sm=sheet.max_blocks_per_sm.value,
        memory_bus_width_bits=sheet.memory_bus_width_bits.value,
        context_bytes=sheet.context.typical_bytes,
        context_low_bytes=sheet.context.low_bytes,
        context_high_bytes=sheet.context.high_bytes,
        context_is_measured=sheet.context.basis == "measured",
        figures=tuple(_figures(sheet)),
    )


def _figures(sheet: Sheet) -> list[Figure]:
    figures = [_figure(name, getattr(sheet, name)) for name in Sheet.model_fields if name != "context"]
    context = sheet.context
    figures.append(_figure("context.measured", context.measured))
    figures.extend(
        Figure(name=f"context.{name}", value=value, source=context.source, note=context.note)
        for name, value in (
            ("low_bytes", context.low_bytes),
            ("typical_bytes", context.typical_bytes),
            ("high_bytes", context.high_bytes),
        )
    )
    return figures


def _figure(name: str, given: Known[int] | Known[str] | Unknown) -> Figure:
    if isinstance(given, Unknown):
        return Figure(name=name, value=None, reason=given.reason)
    return Figure(name=name, value=given.value, source=given.source, note=given.note)
