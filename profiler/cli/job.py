"""Which job a configuration file, the flags and `--set` describe together."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.jobs.alloc_conf import choose_alloc_conf
from profiler.jobs.job import METHODS, JobSpec
from profiler.jobs.load import Tree, job_from, read_setting, read_yaml, set_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_DEFAULT_METHOD = "qlora"
_PATHS = {
    "model": "model",
    "revision": "revision",
    "weights": "weights",
    "method": "method.kind",
    "rank": "method.rank",
    "alpha": "method.alpha",
    "dropout": "method.dropout",
    "targets": "method.targets",
    "quant": "method.quant",
    "double_quant": "method.double_quant",
    "kbit_prepare": "method.kbit_prepare",
    "compute_dtype": "method.compute_dtype",
    "dora": "method.use_dora",
    "rslora": "method.use_rslora",
    "trl_casting": "method.trl_casting",
    "new_tokens": "method.new_tokens",
    "precision": "precision",
    "optimizer": "optimizer",
    "batch_size": "batch_size",
    "seq_len": "seq_len",
    "gradient_checkpointing": "gradient_checkpointing.enabled",
    "reentrant": "gradient_checkpointing.reentrant",
    "attention": "attention",
    "attention_mask": "attention_mask",
    "loop": "loop",
    "steps": "steps",
    "alloc_conf": "alloc_conf",
    "gpu": "gpu",
    "gpu_memory": "gpu_memory_bytes",
}
"""Where in a job each flag's value goes."""
_NUMBERS = {"rank", "alpha", "dropout", "batch_size", "seq_len", "steps", "new_tokens"}


def read_job(
    *,
    config: Path | None,
    flags: Mapping[str, object],
    settings: Sequence[str],
    environ: Mapping[str, str],
) -> tuple[JobSpec, str]:
    """Reads a job; flags change what the file says, `--set` changes both.

    Args:
        config: a YAML file that describes a job; None for none.
        flags: the value of each flag by its parameter's name; None means that it was not given.
        settings: `key.path=value` texts; the values are YAML.
        environ: the environment of the command, whose allocator settings a job adopts.

    Returns:
        The job, and the reason for its allocator settings where they come from the environment (else "").

    Raises:
        ConfigError: if they describe no job; it names the flag, or the file and the key.
    """
    data = read_yaml(config) if config else {}
    data, labels = _apply_flags(data, flags)
    for setting in settings:
        path, value = read_setting(setting)
        data = set_value(_with_method_kind(data) if path.startswith("method.") else data, path, value)
        labels[path] = f"--set {path}"
    if "model" not in data:
        raise ConfigError(
            "no model is named", hint="give a preset, a Hub id or a local directory, or --config"
        )
    spec = job_from(data, source=str(config) if config else "", labels=labels)
    alloc_conf, reason = choose_alloc_conf(spec.alloc_conf, environ=environ)
    return spec.model_copy(update={"alloc_conf": alloc_conf}), reason


def read_number(text: str) -> int | float | str:
    """Reads a number a flag was given; text that is none comes back, for the job's own check to refuse."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _apply_flags(data: Tree, flags: Mapping[str, object]) -> tuple[Tree, dict[str, str]]:
    given = {name: value for name, value in flags.items() if value is not None}
    labels = {_PATHS[name]: _label(name) for name in given}
    if "method" in given:
        data = _change_method(data, str(given.pop("method")))
    for name, text in given.items():
        path, value = _PATHS[name], read_number(str(text)) if name in _NUMBERS else text
        data = set_value(_with_method_kind(data) if path.startswith("method.") else data, path, value)
    return data, labels


def _label(name: str) -> str:
    return "MODEL" if name == "model" else f"--{name.replace('_', '-')}"


def _change_method(data: Tree, kind: str) -> Tree:
    """Another method than the file's keeps what applies to both: a rank stays, a 4-bit type goes."""
    before = data.get("method")
    if not isinstance(before, dict) or kind not in METHODS:
        return {**data, "method": {"kind": kind}}
    is_same = before.get("kind") == kind
    kept = {key: value for key, value in before.items() if is_same or _applies(key, kind, before)}
    return {**data, "method": {**kept, "kind": kind}}


def _applies(key: str, kind: str, before: Mapping[str, object]) -> bool:
    old = METHODS.get(str(before.get("kind")))
    is_of_old_only = old is not None and key in old.model_fields and key not in METHODS[kind].model_fields
    return not is_of_old_only


def _with_method_kind(data: Tree) -> Tree:
    """A flag such as `--rank` alone is about the default method."""
    return data if "method" in data else {**data, "method": {"kind": _DEFAULT_METHOD}}
