"""Whether the installed torch takes an allocator configuration: which settings there are, and their values.

torch says so only once it is loaded and asked, or aborts where it finds a wrong one in the environment. Its
rules are those of `AllocatorConfig.cpp` and `CUDAAllocatorConfig.cpp` (2.4 to 2.14).
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.jobs.alloc_conf import parse_alloc_conf
from profiler.jobs.problems import nearest_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_WHOLE = re.compile(r"[+-]?(\d+)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LIBRARIES = ("libc10.so", "libc10_cuda.so")
_SEGMENT_MB = 20
"""What a large segment has where `large_segment_size_mb` does not say; a split block must not be below."""
_MAX_THREADS = 128


def check_alloc_conf(text: str) -> None:
    """Makes sure that torch will take a configuration.

    Raises:
        ConfigError: the installed torch has no such setting, or does not take such a value.
    """
    check_options(parse_alloc_conf(text), [name for name in _RULES if _is_in_torch(name)])


def check_options(options: Mapping[str, str], known: Sequence[str]) -> None:
    """Makes sure that a torch which knows some settings takes these.

    Raises:
        ConfigError: it has no such setting, or does not take such a value.
    """
    segment_mb = read_whole(options.get("large_segment_size_mb", str(_SEGMENT_MB)))
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"alloc_conf: torch has no setting {key!r}", hint=nearest_hint(key, known))
        expected, takes = _RULES[key]
        if not takes(value, _SEGMENT_MB if segment_mb is None else segment_mb):
            shown = expected.format(segment_mb=segment_mb)
            raise ConfigError(f"alloc_conf: {key} does not take {value!r}", hint=f"it takes {shown}")


def read_whole(text: str) -> int | None:
    """A whole number as C reads it: what follows the digits does not count; one below 0 is beyond all."""
    match = _WHOLE.match(text)
    if match is None or len(match[1]) > 18:
        return None
    return 2**64 - int(match[1]) if text.startswith("-") and int(match[1]) else int(match[1])


def read_decimal(text: str) -> float | None:
    """A decimal number as C reads it: what follows it does not count."""
    match = _DECIMAL.match(text)
    return float(match[0]) if match else None


def _is_power_of_2(text: str) -> bool:
    number = read_whole(text)
    return number is not None and number > 0 and number & (number - 1) == 0


def _is_truth_value(text: str, _: int) -> bool:
    return text in ("True", "False")


def _is_segment(text: str, _: int) -> bool:
    number = read_whole(text)
    return number is not None and number > 10


def _is_block(text: str, segment_mb: int) -> bool:
    number = read_whole(text)
    return number is not None and number >= segment_mb


def _is_count(text: str, _: int) -> bool:
    number = read_whole(text)
    return number is not None and number > 0


def _is_size(text: str, _: int) -> bool:
    return read_whole(text) is not None


def _is_thread_count(text: str, _: int) -> bool:
    return _is_power_of_2(text) and (read_whole(text) or 0) <= _MAX_THREADS


def _is_threshold(text: str, _: int) -> bool:
    share = read_decimal(text)
    return share is not None and 0 < share < 1


def _is_fraction(text: str, _: int) -> bool:
    share = read_decimal(text)
    return share is not None and 0 <= share <= 1


def _are_divisions(text: str, _: int) -> bool:
    if not text.startswith("["):
        return _is_power_of_2(text)
    inner = text[1:-1].removesuffix(",")
    return all(map(_is_division, inner.split(","))) if inner else True


def _is_division(text: str) -> bool:
    limit, _, number = text.partition(":")
    is_limit = limit == ">" or _is_power_of_2(limit)
    return is_limit and ":" not in number and (read_whole(number) == 0 or _is_power_of_2(number))


_TRUTH_VALUE = ("True or False", _is_truth_value)
_RULES: Mapping[str, tuple[str, Callable[[str, int], bool]]] = MappingProxyType(
    {
        "backend": ("native", lambda text, _: text == "native"),
        "expandable_segments": _TRUTH_VALUE,
        "max_split_size_mb": ("a whole number of at least {segment_mb}", _is_block),
        "max_non_split_rounding_mb": ("a whole number of at least {segment_mb}", _is_block),
        "large_segment_size_mb": ("a whole number above 10", _is_segment),
        "garbage_collection_threshold": ("a number above 0 and below 1", _is_threshold),
        "roundup_power2_divisions": (
            "a power of 2, or a list such as [256:1,512:2,>:8] of powers of 2",
            _are_divisions,
        ),
        "per_process_memory_fraction": ("a number from 0 to 1", _is_fraction),
        "release_lock_on_cudamalloc": _TRUTH_VALUE,
        "release_lock_on_hipmalloc": _TRUTH_VALUE,
        "throw_on_cudamalloc_oom": _TRUTH_VALUE,
        "graph_capture_record_stream_reuse": _TRUTH_VALUE,
        "pinned_use_cuda_host_register": _TRUTH_VALUE,
        "pinned_use_hip_host_register": _TRUTH_VALUE,
        "pinned_use_background_threads": _TRUTH_VALUE,
        "pinned_free_catch_all": _TRUTH_VALUE,
        "pinned_num_register_threads": (f"a power of 2 up to {_MAX_THREADS}", _is_thread_count),
        "pinned_reserve_segment_size_mb": ("a whole number above 0", _is_count),
        "pinned_max_round_threshold_mb": ("a whole number", _is_size),
        "pinned_max_cached_size_mb": ("a whole number", _is_size),
    }
)
"""Every setting: what it takes in words, and whether it takes a value; a large segment has so many MiB."""


def _is_in_torch(key: str) -> bool:
    """Whether the installed torch knows a setting: its libraries hold the name. Without torch, all are."""
    names = _library_bytes()
    return key == "backend" or not names or key.encode() in names


@cache
def _library_bytes() -> bytes:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return b""
    paths = [Path(spec.origin).parent / "lib" / name for name in _LIBRARIES]
    return b"".join(path.read_bytes() for path in paths) if all(path.is_file() for path in paths) else b""
