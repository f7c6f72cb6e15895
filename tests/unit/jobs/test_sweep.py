from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from profiler.errors import ConfigError
from profiler.jobs.expansion import expand
from profiler.jobs.job import JobSpec, Lora
from profiler.jobs.sweep import Sweep, load_sweep
from profiler.resources import configs_dir
from tests.unit.jobs.sweeps import a_file, jobs_of, refusal_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sweep_extends_another(tmp_path: Path) -> None:
    a_file(
        tmp_path,
        file="parent.yaml",
        base={"model": "x", "method": {"kind": "qlora", "rank": 4}, "steps": 5},
        axes={"seq_len": [512, 1024], "batch_size": [1, 2]},
        exclude=[{"seq_len": 1024, "batch_size": 2}],
    )
    child = {
        "extends": "parent.yaml",
        "base": {"method": "lora"},
        "axes": {"batch_size": [2]},
        "exclude": [{"seq_len": 64}],
    }
    (job,) = jobs_of(tmp_path, **child)
    assert job == JobSpec(model="x", method=Lora(rank=4), steps=5, seq_len=512, batch_size=2)


def test_a_sweep_that_extends_itself_is_refused(tmp_path: Path) -> None:
    a_file(tmp_path, file="other.yaml", extends="sweep.yaml")
    assert "extends itself" in refusal_of(tmp_path, extends="other.yaml").message


def test_what_is_wrong_in_an_extended_file_names_that_file(tmp_path: Path) -> None:
    parent = a_file(tmp_path, file="parent.yaml", axes={"seq_len": [0]})
    error = refusal_of(tmp_path, extends="parent.yaml")
    assert error.message == f"{parent}: axes.seq_len[0]: must be at least 1, not 0"


def test_a_bare_name_is_a_shipped_sweep() -> None:
    from pathlib import Path

    assert load_sweep(Path("smoke")) == load_sweep(configs_dir() / "sweeps" / "smoke.yaml")
    with pytest.raises(ConfigError) as caught:
        load_sweep(Path("smoek"))
    assert caught.value.hint == "did you mean 'smoke'?"


@pytest.mark.parametrize(
    "path", sorted((configs_dir() / "sweeps").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_sweep_expands_to_valid_jobs(path: Path) -> None:
    expansion = expand(load_sweep(path))
    assert expansion.jobs
    assert expansion.invalid == ()


def test_the_sweeps_of_the_documentation_are_what_it_says(tmp_path: Path) -> None:
    text = (configs_dir().parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    first, second = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    a_file(tmp_path, first, file="my-sweep.yaml")
    expansion = expand(load_sweep(tmp_path / "my-sweep.yaml"))
    assert (len(expansion.jobs), expansion.num_excluded, expansion.invalid) == (25, 8, ())
    longer = expand(load_sweep(a_file(tmp_path, second)))
    assert {job.seq_len for job in longer.jobs} == {8192, 16384, 512}


def test_a_setting_holds_for_every_job(tmp_path: Path) -> None:
    parts = {"axes": {"seq_len": [512, 1024]}, "include": [{"gpu": "a40", "seq_len": 64}]}
    assert {job.gpu for job in jobs_of(tmp_path, "gpu=real", **parts)} == {"real"}
    assert [job.seq_len for job in jobs_of(tmp_path, "seq_len=256", **parts)] == [256, 256]


def test_a_list_of_settings_takes_an_axis_place(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "seq_len=[128, 256]", axes={"seq_len": [512, 1024], "batch_size": [1, 2]})
    assert [(job.seq_len, job.batch_size) for job in jobs] == [(128, 1), (128, 2), (256, 1), (256, 2)]


def test_a_method_that_is_set_keeps_the_axes_below_it(tmp_path: Path) -> None:
    axes = {"method": ["full", "qlora"], "method.rank": [8, 16]}
    assert [job.method for job in jobs_of(tmp_path, "method=lora", axes=axes)] == [
        Lora(rank=8),
        Lora(rank=16),
    ]
    set_whole = jobs_of(tmp_path, "method={kind: lora, rank: 2}", axes=axes)
    assert [job.method for job in set_whole] == [Lora(rank=2)]


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"axs": {}}, "axs: unknown key", "did you mean 'axes'?"),
    (
        {"name": "A b"},
        "name: 'A b' cannot be a directory's name",
        "lower-case letters, digits and ._- make a name",
    ),
    ({"base": {}}, "base.model: is missing", "a preset, a Hub id or a local directory"),
    (
        {"base": {}, "include": [{"seq_len": 3}]},
        "include[0].model: is missing",
        "a preset, a Hub id or a local",
    ),
    ({"base": ["model"]}, "base: expected `key: value` lines, found ['model']", ""),
    ({"base": {"model": "x", "batchsize": 1}}, "base.batchsize: unknown key", "did you mean 'batch_size'?"),
    ({"base": {"model": "x", "rank": 1}}, "base.rank: unknown key", "did you mean 'method.rank'?"),
    (
        {"base": {"model": "x", "method": {"kind": "full", "rank": 1}}},
        "base.method.rank: does not apply to method 'full'",
        "it belongs to lora, qlora, int8-lora",
    ),
    (
        {"include": [{"method": "full", "method.rank": 1}]},
        "include[0].method.rank: does not apply to method 'full'",
        "it belongs to lora, qlora, int8-lora",
    ),
    ({"axes": {"method.rnak": [1]}}, "axes.method.rnak: unknown key", "did you mean 'method.rank'?"),
    ({"axes": {"method.rank": [8, 0]}}, "axes.method.rank[1]: must be at least 1, not 0", ""),
    ({"axes": {"method": ["lora", "qlra"]}}, "axes.method[1].kind: there is no method 'qlra'", "'qlora'?"),
    ({"axes": {"precision": ["bf17"]}}, "axes.precision[0]: 'bf17' is not one of its values", "'bf16'?"),
    ({"axes": {"seq_len": 512}}, "axes.seq_len: expected a list of values, found 512", "write [VALUE]"),
    ({"axes": {"seq_len": []}}, "axes.seq_len: expected a list of values, found []", "write [VALUE]"),
    ({"axes": {"a\nb": [1]}}, "axes: expected `key: value` lines, found {'a\\nb': [1]}", ""),
    ({"axes": {1: [1]}}, "axes: expected `key: value` lines, found {1: [1]}", ""),
    (
        {"zip": {"seq_len": [1, 2], "batch_size": [1]}},
        "zip: its lists are of unequal length: seq_len has 2,",
        "",
    ),
    ({"axes": {"seq_len": [1]}, "zip": {"seq_len": [1]}}, "seq_len is in axes and in zip", "leave it in one"),
    (
        {"exclude": [{"seq_len": [512, "long"]}]},
        "exclude[0].seq_len: expected a whole number, found 'long'",
        "",
    ),
    ({"exclude": [{}]}, "exclude[0]: names no key, and would exclude every job", "name at least one"),
    (
        {"exclude": {"seq_len": 1}},
        "exclude: expected a list, found {'seq_len': 1}",
        "begin each entry with `-`",
    ),
    ({"extends": 3}, "extends: expected a text, found 3", "quote it"),
    (
        {"axes": {"seq_len": list(range(1, 400)), "batch_size": list(range(1, 400))}},
        "the grid has 159,201",
        "split",
    ),
]


@pytest.mark.parametrize(("parts", "message", "hint"), REFUSALS, ids=[message for _, message, _ in REFUSALS])
def test_what_is_wrong_is_said_with_file_path_and_nearest_key(
    parts: dict[str, Any], message: str, hint: str, tmp_path: Path
) -> None:
    error = refusal_of(tmp_path, **parts)
    assert error.message.startswith(f"{tmp_path / 'sweep.yaml'}: {message}")
    assert hint in error.hint


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seq_len", "--set 'seq_len' is no KEY=VALUE"),
        ("seqlen=1", "--set seqlen: unknown key"),
        ("seq_len=[1]", "--set seq_len: expected a whole number, found [1]"),
        ("batch_size=[]", "--set batch_size: expected a list of values, found []"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, message: str, tmp_path: Path) -> None:
    assert refusal_of(tmp_path, setting, axes={"batch_size": [1]}).message == message


def test_a_sweep_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep.yaml: name: is missing"):
        load_sweep(a_file(tmp_path, "base: {model: x}"))


def test_a_sweep_is_a_frozen_value() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Sweep(name="x").name = "y"  # type: ignore[misc]
