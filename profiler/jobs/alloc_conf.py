"""What an allocator configuration (`PYTORCH_ALLOC_CONF`) says, and which one a job runs under."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from profiler.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

ALLOC_CONF_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The variable torch reads since 2.9 and the one it read before, newest first."""

# A value is a word, or a bracketed list whose commas belong to it: `roundup_power2_divisions:[256:1,>:8]`.
_OPTION = re.compile(r"(?P<key>[a-z][a-z0-9_]*):(?P<value>\[[^\[\]]*\]|[^,:\[\]]+)", re.ASCII)
_COMMA = re.compile(r",(?![^\[\]]*\])")


def parse_alloc_conf(text: str) -> dict[str, str]:
    """Reads `key:value,key:value` as torch does; spaces mean nothing; no text means no options.

    Raises:
        ValueError: if the text is not a comma-separated list of key:value pairs, each key once.
    """
    compact = "".join(text.split())
    options: dict[str, str] = {}
    for part in _COMMA.split(compact) if compact else []:
        match = _OPTION.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not a key:value pair")
        if match["key"] in options:
            raise ValueError(f"{match['key']!r} is given twice")
        options[match["key"]] = match["value"]
    return options


def format_alloc_conf(options: Mapping[str, str]) -> str:
    """Writes options as the allocator reads them."""
    return ",".join(f"{key}:{value}" for key, value in options.items())


def choose_alloc_conf(configured: str, *, environ: Mapping[str, str]) -> tuple[str, str]:
    """Says which allocator configuration a job runs under, and why; the reason is empty where none is needed.

    Args:
        configured: the job's own `alloc_conf`; empty where it sets none.
        environ: the environment the command was started in.

    Raises:
        ConfigError: if the environment and the job, or two variables of the environment, disagree.
    """
    options = parse_alloc_conf(configured)
    found = {name: environ[name] for name in ALLOC_CONF_VARIABLES if environ.get(name)}
    for name, text in found.items():
        if options and _read_variable(name, text) != options:
            raise ConfigError(
                f"{name} is {text!r}, but the job sets alloc_conf to {configured!r}",
                hint=f"unset {name}, or leave alloc_conf empty to adopt it",
            )
    if options or not found:
        return configured, ""
    return _adopt(found)


def _adopt(found: Mapping[str, str]) -> tuple[str, str]:
    readings = {name: _read_variable(name, text) for name, text in found.items()}
    name, *others = readings
    if any(readings[other] != readings[name] for other in others):
        raise ConfigError(
            f"{name} and {others[0]} disagree", hint=f"unset {others[0]}, which torch is retiring"
        )
    return format_alloc_conf(readings[name]), f"alloc_conf adopted from {name} in the environment"


def _read_variable(name: str, text: str) -> dict[str, str]:
    try:
        return parse_alloc_conf(text)
    except ValueError as error:
        raise ConfigError(
            f"{name} cannot be read: {error}", hint="write it as key:value,key:value, or unset it"
        ) from None
