"""What differs between releases of torch in what their caching allocators reserve.

Each was read in c10/cuda/CUDACachingAllocator.cpp and its configuration, and tried on the release itself over
a virtual card, with events at random.
"""

from __future__ import annotations

from dataclasses import dataclass

from profiler.process.tested import release


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
        orders_by_address: whether of free blocks of one size the one at the lowest address is taken
            (`BlockComparatorSize`); later of the oldest segment, and there at the lowest address
            (`BlockComparatorSizeCounterAddress`). Where a driver puts a segment, only the driver knows.
        others_begin_at_last: whether `>` in a list of `roundup_power2_divisions` overwrites the power of 2
            before it too (`parseRoundUpPower2Divisions`).
    """

    since: str
    settings: tuple[str, ...]
    expands_with_limits: bool
    private_pools_expand: bool
    pools_keep_cache: bool
    orders_by_address: bool
    others_begin_at_last: bool


_SETTINGS_2_4 = (
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
)
_SETTINGS_2_13 = (
    *_SETTINGS_2_4,
    "max_non_split_rounding_mb",
    "large_segment_size_mb",
    "per_process_memory_fraction",
    "throw_on_cudamalloc_oom",
    "graph_capture_record_stream_reuse",
    "pinned_use_background_threads",
    "pinned_free_catch_all",
    "pinned_reserve_segment_size_mb",
    "pinned_max_round_threshold_mb",
    "pinned_max_cached_size_mb",
)
RELEASES = (
    Rules(
        since="2.4",
        settings=_SETTINGS_2_4,
        expands_with_limits=False,
        private_pools_expand=False,
        pools_keep_cache=True,
        orders_by_address=True,
        others_begin_at_last=True,
    ),
    Rules(
        since="2.5",
        settings=_SETTINGS_2_4,
        expands_with_limits=True,
        private_pools_expand=True,
        pools_keep_cache=True,
        orders_by_address=True,
        others_begin_at_last=True,
    ),
    Rules(
        since="2.6",
        settings=(*_SETTINGS_2_4, "max_non_split_rounding_mb", "pinned_use_background_threads"),
        expands_with_limits=True,
        private_pools_expand=True,
        pools_keep_cache=True,
        orders_by_address=True,
        others_begin_at_last=True,
    ),
    Rules(
        since="2.13",
        settings=_SETTINGS_2_13,
        expands_with_limits=True,
        private_pools_expand=True,
        pools_keep_cache=False,
        orders_by_address=False,
        others_begin_at_last=False,
    ),
)
"""The oldest first."""
NEWEST = RELEASES[-1]


def rules_of(version: str) -> Rules:
    """The rules of a release, such as 2.9.1+cu128; of one older than all, the oldest."""
    found = [rules for rules in RELEASES if release(rules.since) <= release(version)]
    return found[-1] if found else RELEASES[0]
