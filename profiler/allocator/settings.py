"""How an allocator behaves: the release of torch, and what a configuration (`PYTORCH_ALLOC_CONF`) says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiler.allocator.rules import NEWEST, Rules
from profiler.allocator.sizes import LARGE_SEGMENT_BYTES, NUM_DIVISIONS
from profiler.errors import ConfigError
from profiler.jobs.alloc_conf import parse_alloc_conf
from profiler.jobs.alloc_settings import check_options, read_decimal, read_whole
from profiler.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOT_FOLLOWED = ("throw_on_cudamalloc_oom", "graph_capture_record_stream_reuse")
"""Settings that change what the allocator does, and are not replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorSettings:
    """The settings that say what device memory is reserved; each has torch's default.

    Attributes:
        rules: of the release of torch.
        expandable_segments: whether segments grow page by page.
        max_split_bytes: `max_split_size_mb`: blocks from this size on are not split; None for no such size.
        max_non_split_rounding_bytes: by how much less than this such a block may exceed a request; None for
            the size of a large segment.
        large_segment_bytes: `large_segment_size_mb`: what requests from 1 to 10 MiB share.
        roundup_power2_divisions: for each power of 2 from 1 MiB to 32 GiB into how many parts it is divided
            for rounding up; empty for no such rounding.
        garbage_collection_threshold: above this share of what is allowed, old free blocks are given back; 0
            for never. It has an effect only beside a `per_process_memory_fraction`.
        per_process_memory_fraction: what share of the card may be reserved.
    """

    rules: Rules = NEWEST
    expandable_segments: bool = False
    max_split_bytes: int | None = None
    max_non_split_rounding_bytes: int | None = None
    large_segment_bytes: int = LARGE_SEGMENT_BYTES
    roundup_power2_divisions: tuple[int, ...] = ()
    garbage_collection_threshold: float = 0.0
    per_process_memory_fraction: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether the smallest block that is large enough always serves a request."""
        return not (
            self.expandable_segments or self.max_split_bytes is not None or self.garbage_collection_threshold
        )


def read_settings(text: str, rules: Rules = NEWEST) -> AllocatorSettings:
    """Reads a configuration as the torch that has these rules does.

    Raises:
        ConfigError: that torch has no such setting or does not take such a value, or it is not replayed.
        ValueError: the text is not a comma-separated list of key:value pairs.
    """
    options = parse_alloc_conf(text)
    check_options(options, rules.settings)
    for key in _NOT_FOLLOWED:
        if options.get(key) == "True":
            raise ConfigError(f"alloc_conf: {key} is not replayed", hint="leave it out")
    settings = AllocatorSettings(rules=rules, **_values(options, rules))
    has_limits = settings.max_split_bytes is not None or settings.garbage_collection_threshold
    if settings.expandable_segments and has_limits and not rules.expands_with_limits:
        raise ConfigError(
            "alloc_conf: this torch fails an assertion with expandable_segments and max_split_size_mb or "
            "garbage_collection_threshold",
            hint="leave one of them out",
        )
    return settings


def _values(options: Mapping[str, str], rules: Rules) -> dict[str, Any]:
    values = {
        "expandable_segments": options.get("expandable_segments") == "True",
        "max_split_bytes": _mib(options, "max_split_size_mb"),
        "max_non_split_rounding_bytes": _mib(options, "max_non_split_rounding_mb"),
        "large_segment_bytes": _mib(options, "large_segment_size_mb"),
        "roundup_power2_divisions": _divisions(options.get("roundup_power2_divisions", ""), rules),
        "garbage_collection_threshold": read_decimal(options.get("garbage_collection_threshold", "")),
        "per_process_memory_fraction": read_decimal(options.get("per_process_memory_fraction", "")),
    }
    return {name: value for name, value in values.items() if value is not None}


def _mib(options: Mapping[str, str], key: str) -> int | None:
    number = read_whole(options.get(key, ""))
    return None if number is None else number * MIB


def _divisions(text: str, rules: Rules) -> tuple[int, ...]:
    """`parseRoundUpPower2Divisions`: one number for all, or pairs of the power of 2 in MiB and its number."""
    if not text:
        return ()
    if not text.startswith("["):
        return (read_whole(text) or 0,) * NUM_DIVISIONS
    divisions = [0] * NUM_DIVISIONS
    last = None
    for pair in filter(None, text[1:-1].split(",")):
        limit, _, number = pair.partition(":")
        parts = read_whole(number) or 0
        if limit == ">":
            start = (last or 0) + (not rules.others_begin_at_last)
            divisions[start:] = [parts] * (NUM_DIVISIONS - start)
            continue
        index = min((read_whole(limit) or 1).bit_length() - 1, NUM_DIVISIONS - 1)
        if last is None:
            divisions[:index] = [parts] * index
        divisions[index] = parts
        last = index
    return tuple(divisions) if any(divisions) else ()
