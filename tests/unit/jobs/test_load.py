from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.jobs.job import JobSpec, Lora
from profiler.jobs.load import job_from, read_value, read_yaml, set_value
from tests.builders import a_job

if TYPE_CHECKING:
    from pathlib import Path

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)


def job_of(path: Path) -> JobSpec:
    return job_from(read_yaml(path), source=str(path))


def file_with(text: str, directory: Path) -> Path:
    path = directory / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal_of(data: dict[str, Any], **options: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        job_from(data, **options)
    return caught.value


def refusal_or_nothing(data: dict[str, Any]) -> str:
    try:
        job_from(data, source="job.yaml")
    except ConfigError as error:
        return f"{error.message} {error.hint}"
    return ""


def test_the_job_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = """
    model: llama-3.1-8b
    weights: random
    method: {kind: qlora, quant: nf4, double_quant: true, compute_dtype: bfloat16, kbit_prepare: true,
             rank: 16, alpha: 32, dropout: 0.0, targets: all-linear}
    precision: bf16
    optimizer: adamw_torch
    batch_size: 1
    seq_len: 2048
    gradient_checkpointing: true
    attention: sdpa
    steps: 3
    alloc_conf: ""
    gpu: auto
    """
    assert job_of(file_with(text, tmp_path)) == JobSpec(model="llama-3.1-8b")


def test_a_stored_job_is_read_back(tmp_path: Path) -> None:
    job = a_job(method={"kind": "lora", "targets": "q_proj,v_proj"}, gpu_memory_bytes=2**40)
    text = yaml.safe_dump(job.model_dump(mode="json"))
    assert job_of(file_with(text, tmp_path)) == job


def test_an_unknown_key_is_named_with_file_path_and_nearest_key(tmp_path: Path) -> None:
    path = file_with("model: x\nmethod: {kind: lora, rnak: 8}\n", tmp_path)
    with pytest.raises(ConfigError) as caught:
        job_of(path)
    assert caught.value.message == f"{path}: method.rnak: unknown key"
    assert caught.value.hint == "did you mean 'rank'?"


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "model: is missing", "a preset, a Hub id or a local directory"),
    ({"model": ""}, "model: is empty", "a preset, a Hub id or a local directory"),
    ({"batchsize": 3}, "batchsize: unknown key", "did you mean 'batch_size'?"),
    ({"batch_size": 0}, "batch_size: must be at least 1, not 0", ""),
    ({"seq_len": 10**12}, "seq_len: must be at most 16777216, not 1000000000000", ""),
    ({"seq_len": "long"}, "seq_len: expected a whole number, found 'long'", ""),
    ({"optimizer": "adamw"}, "optimizer: 'adamw' is not one of its values", "did you mean 'adamw_torch'?"),
    ({"precision": 16}, "precision: 16 is not one of its values", "did you mean 'fp16'?"),
    ({"method": "qlra"}, "method.kind: there is no method 'qlra'", "did you mean 'qlora'?"),
    ({"method": {"rank": 3}}, "method.kind: is missing", "it can be full, lora, qlora, int8-lora, inference"),
    ({"method": 3}, "method: 3 is no method", "write a method's name, or its keys and values"),
    (
        {"method": {"kind": "full", "rank": 3}},
        "method.rank: does not apply to method 'full'",
        "it belongs to lora, qlora, int8-lora",
    ),
    (
        {"method": {"kind": "lora", "quant": "nf4"}},
        "method.quant: does not apply to method 'lora'",
        "it belongs to qlora, inference",
    ),
    (
        {"method": {"kind": "qlora", "quant": "nf5"}},
        "method.quant: 'nf5' is not one of its values",
        "did you mean 'nf4'?",
    ),
    (
        {"method": {"kind": "inference", "quant": "int4"}},
        "method.quant: 'int4' is not one of its values",
        "did you mean 'int8'?",
    ),
    (
        {"method": {"kind": "qlora", "quant": "int8"}},
        "method.quant: 'int8' is not one of its values",
        "it can be nf4, fp4",
    ),
    (
        {"method": "inference", "steps": 5},
        "steps does not apply to method 'inference', which trains nothing",
        "leave it out",
    ),
    ({"method": {"kind": "lora", "rank": True}}, "method.rank: expected a whole number, found True", ""),
    ({"method": {"kind": "lora", "dropout": 1}}, "method.dropout: must be below 1.0, not 1", ""),
    (
        {"gradient_checkpointing": {"reentrnt": True}},
        "gradient_checkpointing.reentrnt: unknown key",
        "did you mean 'reentrant'?",
    ),
    (
        {"gradient_checkpointing": "on"},
        "gradient_checkpointing: 'on' is neither true nor false",
        "write true, false or {reentrant: true}",
    ),
    (
        {"gpu": "real", "gpu_memory_bytes": "1TiB"},
        "gpu_memory_bytes applies to a virtual card only, not to gpu 'real'",
        "name a card of the catalogue, such as rtx-4090",
    ),
    ({"batch_size": 0, "seq_len": 0}, "batch_size: must be at least 1, not 0 (and 1 more)", ""),
]


@pytest.mark.parametrize(
    ("changes", "message", "hint"), REFUSALS, ids=[message for _, message, _ in REFUSALS]
)
def test_what_is_wrong_is_said_in_the_writers_words(changes: dict[str, Any], message: str, hint: str) -> None:
    error = refusal_of(changes if "model" in changes or not changes else {"model": "x", **changes})
    assert (error.message, error.hint) == (message, hint)


def test_a_label_takes_the_place_of_source_and_path() -> None:
    data = {"model": "x", "method": {"kind": "lora", "rank": 0}}
    error = refusal_of(data, source="job.yaml", labels={"method.rank": "--rank"})
    assert error.message == "--rank: must be at least 1, not 0"


@given(st.dictionaries(st.sampled_from([*JobSpec.model_fields, "modle", "x"]), trees, max_size=4))
def test_any_mapping_is_a_job_or_one_clear_line(data: dict[str, Any]) -> None:
    said = refusal_or_nothing(data)
    assert said.startswith("job.yaml: ") or not said
    assert not any(noise in said for noise in ("\n", "pydantic", "Input should", "type=", "JobSpec"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not hold `key: value` lines"),
        ("- a\n- b\n", "does not hold `key: value` lines"),
        ("1: a\n", "does not hold `key: value` lines"),
        ("model: [a\n", "line 2: did not find expected ',' or ']'"),
        ("model: a\nmodel: b\n", "line 2: the key 'model' is given twice"),
        ("model: a\nmethod: {kind: lora, rank: 1, rank: 2}\n", "line 2: the key 'rank' is given twice"),
        ("model: !!python/name:os.system\n", "line 1: the tag '!!python/name:os.system' cannot stand here"),
        ("model: \x01\n", "characters that YAML does not allow"),
        ("model: " + "[" * 60 + "]" * 60, "is nested too deeply"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_its_line(text: str, problem: str, tmp_path: Path) -> None:
    path = file_with(text, tmp_path)
    with pytest.raises(ConfigError) as caught:
        job_of(path)
    assert str(path) in caught.value.message
    assert problem in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"model: \xff\xfe")
    with pytest.raises(ConfigError, match=r"job.yaml is not UTF-8 text"):
        read_yaml(tmp_path / "job.yaml")


@pytest.mark.parametrize(("name", "problem"), [("none.yaml", "no such file"), (".", "is a directory")])
def test_a_path_that_is_no_file_is_refused(name: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_yaml(tmp_path / name)


def test_values_are_set_deep_without_touching_the_original() -> None:
    before: dict[str, Any] = {"model": "x", "method": {"kind": "lora", "rank": 4}}
    after = set_value(before, "method.rank", 8)
    assert after == {"model": "x", "method": {"kind": "lora", "rank": 8}}
    assert before["method"]["rank"] == 4


def test_short_forms_are_written_out_to_set_a_value_below() -> None:
    assert set_value({"method": "lora"}, "method.rank", 8) == {"method": {"kind": "lora", "rank": 8}}
    data = set_value({"gradient_checkpointing": True}, "gradient_checkpointing.reentrant", value=True)
    assert data == {"gradient_checkpointing": {"enabled": True, "reentrant": True}}


@pytest.mark.parametrize("path", ["", ".", "method.", ".rank", "method..rank", "batch_size.deep"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        set_value({"batch_size": 3}, path, 1)


@pytest.mark.parametrize(
    ("text", "value"), [("8", 8), ("true", True), ("[a, b]", ["a", "b"]), ("a:b", "a:b"), ("", None)]
)
def test_a_value_is_read_as_yaml(text: str, value: object) -> None:
    assert read_value(text) == value


def test_a_value_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be read as a value"):
        read_value("[a")


def test_a_text_of_targets_becomes_a_set_of_names() -> None:
    job = job_from({"model": "x", "method": {"kind": "lora", "targets": "v_proj,q_proj"}})
    assert job.method == Lora(targets=("q_proj", "v_proj"))
