"""What differs between releases of torch in what their caching allocators reserve.

Each was read in c10/cuda/CUDACachingAllocator.cpp and its configuration, and tried on the release itself over
a virtual card, with events at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from profiler.process.tested import release


class BlockOrder(StrEnum):
    """Which of several free blocks of one size serves a request.

    `address`: the one at the lowest address (`BlockComparatorSize`); where a driver puts a segment, only the
    driver knows. `block`: the one whose block was made first (`BlockComparatorRegistrationCounter`,
    pytorch/pytorch#178362). `segment`: one of the oldest segment, and there at the lowest address
    (`BlockComparatorSizeCounterAddress`, pytorch/pytorch#183591).
    """

    ADDRESS = "address"
    BLOCK = "block"
    SEGMENT = "segment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of a release and those after it, up to the next that changed one.

    Attributes:
        since: the release.
        settings: what may be set that concerns memory, and what does not but is known.
        expands_with_limits: whether `expandable_segments` goes with `max_split_size_mb` and
            `garbage_collection_threshold`; where not, torch fails an assertion as memory runs out
            (`release_block`, pytorch/pytorch#134338).
        private_pools_expand: whether `expandable_segments` holds for private pools (`alloc_block`).
        pools_keep_cache: whether nothing cached is given back while requests go to a private pool; later only
            while a graph is captured (`malloc`, `release_cached_blocks`).
        order: which of several free blocks of one size is taken.
        others_begin_at_last: whether `>` in a list of `roundup_power2_divisions` overwrites the power of 2
            before it too (`parseRoundUpPower2Divisions`).
    """

    since: str
    settings: tuple[str, ...]
    expands_with_limits: bool
    private_pools_expand: bool
    pools_keep_cache: bool
    order: BlockOrder
    others_begin_at_last: bool


_OLDEST = Rules(
    since="2.4",
    settings=(
        "backend",
        "expandable_segments",
        "max_split_size_mb",
        "garbage_collection_threshold",
        "roundup_power2_divisions",
        "release_lock_on_cudamalloc",
        "release_lock_on_hipmalloc",
        "pinned_use_cuda_host_register",
        "pinned_use_hip_host_register",
        "pinned_num_register_threads",
    ),
    expands_with_limits=False,
    private_pools_expand=False,
    pools_keep_cache=True,
    order=BlockOrder.ADDRESS,
    others_begin_at_last=True,
)


def _changed(rules: Rules, since: str, *settings: str, **changes: Any) -> Rules:
    """What a release made of the rules before it: settings that it added, and rules that it changed."""
    return replace(rules, since=since, settings=(*rules.settings, *settings), **changes)


_2_5 = _changed(_OLDEST, "2.5", expands_with_limits=True, private_pools_expand=True)
_2_6 = _changed(_2_5, "2.6", "max_non_split_rounding_mb", "pinned_use_background_threads")
_2_9 = _changed(_2_6, "2.9", "graph_capture_record_stream_reuse")
_2_10 = _changed(
    _2_9, "2.10", "per_process_memory_fraction", "pinned_reserve_segment_size_mb", others_begin_at_last=False
)
_2_11 = _changed(_2_10, "2.11", "large_segment_size_mb")
_2_12 = _changed(
    _2_11,
    "2.12",
    "throw_on_cudamalloc_oom",
    "pinned_free_catch_all",
    order=BlockOrder.BLOCK,
)
NEWEST = _changed(
    _2_12,
    "2.13",
    "pinned_max_round_threshold_mb",
    "pinned_max_cached_size_mb",
    pools_keep_cache=False,
    order=BlockOrder.SEGMENT,
)
RELEASES = (_OLDEST, _2_5, _2_6, _2_9, _2_10, _2_11, _2_12, NEWEST)
"""The oldest first."""


def rules_of(version: str) -> Rules:
    """The rules of a release, such as 2.9.1+cu128; of one older than all, the oldest."""
    found = [rules for rules in RELEASES if release(rules.since) <= release(version)]
    return found[-1] if found else RELEASES[0]
