from __future__ import annotations

import pytest

from profiler.allocator.rules import NEWEST, RELEASES, rules_of
from profiler.allocator.settings import AllocatorSettings, read_settings
from profiler.errors import ConfigError
from profiler.units import MIB

OLDEST = RELEASES[0]


def test_no_text_means_torchs_defaults() -> None:
    assert read_settings("") == AllocatorSettings()


def test_every_setting_is_read() -> None:
    read = read_settings(
        "expandable_segments:True,max_split_size_mb:64,max_non_split_rounding_mb:40,large_segment_size_mb:32,"
        "garbage_collection_threshold:0.8,per_process_memory_fraction:0.5,roundup_power2_divisions:4"
    )
    assert read == AllocatorSettings(
        expandable_segments=True,
        max_split_bytes=64 * MIB,
        max_non_split_rounding_bytes=40 * MIB,
        large_segment_bytes=32 * MIB,
        garbage_collection_threshold=0.8,
        per_process_memory_fraction=0.5,
        roundup_power2_divisions=(4,) * 16,
    )


def test_a_list_of_divisions_speaks_of_powers_of_2_in_mib() -> None:
    read = read_settings("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]")
    assert read.roundup_power2_divisions == (*[1] * 9, 2, 4, *[8] * 5)


def test_before_2_10_the_rest_of_a_list_began_at_its_last_power_of_2() -> None:
    read = read_settings("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", OLDEST)
    assert read.roundup_power2_divisions == (*[1] * 9, 2, *[8] * 6)


def test_a_setting_that_the_release_does_not_have_is_refused() -> None:
    read_settings("large_segment_size_mb:32", NEWEST)
    with pytest.raises(ConfigError, match="no setting 'large_segment_size_mb'"):
        read_settings("large_segment_size_mb:32", OLDEST)


def test_a_value_that_torch_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_split_size_mb does not take '10'"):
        read_settings("max_split_size_mb:10")


def test_what_is_not_replayed_is_refused() -> None:
    with pytest.raises(ConfigError, match="throw_on_cudamalloc_oom is not replayed"):
        read_settings("throw_on_cudamalloc_oom:True")
    assert read_settings("throw_on_cudamalloc_oom:False,pinned_num_register_threads:2") == AllocatorSettings()


@pytest.mark.parametrize(
    ("version", "since"),
    [
        ("2.4.1", "2.4"),
        ("2.5.1+cu121", "2.5"),
        ("2.8.0", "2.6"),
        ("2.12.1", "2.12"),
        ("2.14.1", "2.13"),
        ("2.3.0", "2.4"),
    ],
)
def test_a_release_has_the_rules_of_the_last_change_before_it(version: str, since: str) -> None:
    assert rules_of(version).since == since


def test_what_is_newer_than_all_has_the_newest_rules() -> None:
    assert rules_of("3.0.0") is NEWEST


def test_divisions_for_the_rest_alone_leave_out_what_is_below_2_mib() -> None:
    assert read_settings("roundup_power2_divisions:[>:4]").roundup_power2_divisions == (0, *[4] * 15)


def test_torch_2_4_fails_where_expandable_segments_have_limits_and_is_not_replayed() -> None:
    conf = "expandable_segments:True,max_split_size_mb:64"
    read_settings(conf)
    with pytest.raises(ConfigError, match="fails an assertion"):
        read_settings(conf, OLDEST)
