from __future__ import annotations

import pytest

from profiler.errors import ConfigError
from profiler.jobs import alloc_settings
from profiler.jobs.alloc_settings import check_alloc_conf


@pytest.mark.parametrize(
    "conf",
    [
        "",
        "expandable_segments:True",
        "max_split_size_mb:128,garbage_collection_threshold:0.8",
        "roundup_power2_divisions:[256:1,512:2,1024:0,>:8]",
        "large_segment_size_mb:200,max_split_size_mb:200",
        "backend:native",
    ],
)
def test_what_torch_takes_passes(conf: str) -> None:
    check_alloc_conf(conf)


@pytest.mark.parametrize(
    ("conf", "message", "hint"),
    [
        ("expandable_segment:True", "no setting 'expandable_segment'", "did you mean 'expandable_segments'?"),
        ("expandable_segments:true", "expandable_segments does not take 'true'", "True or False"),
        ("max_split_size_mb:19", "max_split_size_mb does not take '19'", "at least 20"),
        ("max_split_size_mb:128,large_segment_size_mb:200", "does not take '128'", "at least 200"),
        ("garbage_collection_threshold:1", "does not take '1'", "above 0 and below 1"),
        ("roundup_power2_divisions:[256:3]", "does not take", "powers of 2"),
    ],
)
def test_what_torch_would_refuse_is_refused_before(conf: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")) as caught:
        check_alloc_conf(conf)
    assert hint in caught.value.hint


def test_a_setting_that_the_installed_torch_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alloc_settings, "_library_bytes", lambda: b"...expandable_segments...")
    check_alloc_conf("expandable_segments:True")
    with pytest.raises(ConfigError, match="no setting 'throw_on_cudamalloc_oom'"):
        check_alloc_conf("throw_on_cudamalloc_oom:True")


def test_without_torch_every_known_setting_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alloc_settings, "_library_bytes", lambda: b"")
    check_alloc_conf("throw_on_cudamalloc_oom:True")
