from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.jobs.alloc_conf import choose_alloc_conf, format_alloc_conf, parse_alloc_conf

keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
words = st.from_regex(r"[A-Za-z0-9_.]{1,8}", fullmatch=True)
values = words | st.lists(st.tuples(words, words), min_size=1, max_size=3).map(
    lambda pairs: "[" + ",".join(f"{a}:{b}" for a, b in pairs) + "]"
)
configurations = st.dictionaries(keys, values, max_size=4)


@given(configurations)
def test_options_survive_writing_and_reading(options: dict[str, str]) -> None:
    assert parse_alloc_conf(format_alloc_conf(options)) == options


def test_a_bracketed_list_keeps_its_commas() -> None:
    text = "roundup_power2_divisions:[256:1, 512:2, >:8], max_split_size_mb:128"
    assert parse_alloc_conf(text) == {
        "roundup_power2_divisions": "[256:1,512:2,>:8]",
        "max_split_size_mb": "128",
    }


@pytest.mark.parametrize(
    "text", ["a", "a:", ":b", "a:b,", ",a:b", "a:b,,c:d", "a:b:c", "a:[b", "a:b,a:c", "A:b"]
)
def test_what_is_no_list_of_pairs_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a key:value pair|given twice"):
        parse_alloc_conf(text)


def test_the_jobs_own_settings_stand_without_a_reason() -> None:
    assert choose_alloc_conf("a:b", environ={}) == ("a:b", "")


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_the_environments_settings_are_adopted_and_named(name: str) -> None:
    conf, reason = choose_alloc_conf("", environ={name: "expandable_segments: True"})
    assert conf == "expandable_segments:True"
    assert name in reason


def test_an_environment_that_agrees_changes_nothing() -> None:
    assert choose_alloc_conf("a:b,c:d", environ={"PYTORCH_ALLOC_CONF": "c:d, a:b"}) == ("a:b,c:d", "")


def test_an_empty_variable_says_nothing() -> None:
    assert choose_alloc_conf("", environ={"PYTORCH_ALLOC_CONF": ""}) == ("", "")


def test_an_environment_that_disagrees_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="PYTORCH_CUDA_ALLOC_CONF is 'a:c'") as caught:
        choose_alloc_conf("a:b", environ={"PYTORCH_CUDA_ALLOC_CONF": "a:c"})
    assert "unset" in caught.value.hint


def test_two_variables_that_disagree_are_an_error() -> None:
    environ = {"PYTORCH_ALLOC_CONF": "a:b", "PYTORCH_CUDA_ALLOC_CONF": "a:c"}
    with pytest.raises(ConfigError, match="PYTORCH_ALLOC_CONF and PYTORCH_CUDA_ALLOC_CONF disagree"):
        choose_alloc_conf("", environ=environ)


def test_a_variable_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match="PYTORCH_ALLOC_CONF cannot be read: 'nonsense'"):
        choose_alloc_conf("", environ={"PYTORCH_ALLOC_CONF": "nonsense"})
