from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.resources import configs_dir
from profiler.spec.job import Full, JobSpec, Lora, QLora
from profiler.spec.sweep import Expansion, Sweep, expand, load_sweep

if TYPE_CHECKING:
    from pathlib import Path


def a_file(directory: Path, text: str = "", *, file: str = "sweep.yaml", **parts: Any) -> Path:
    """A sweep file of `parts` (a name and a model are added where they are missing), or of a text."""
    path = directory / file
    tree = {"name": "test", "base": {"model": "x"}, **parts}
    path.write_text(text or yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def expansion_of(directory: Path, *sets: str, **parts: Any) -> Expansion:
    return expand(load_sweep(a_file(directory, **parts), settings=sets))


def jobs_of(directory: Path, *sets: str, **parts: Any) -> tuple[JobSpec, ...]:
    return expansion_of(directory, *sets, **parts).jobs


def refusal_of(directory: Path, *sets: str, **parts: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_sweep(a_file(directory, **parts), settings=sets)
    return caught.value


def test_a_grid_is_every_combination_the_last_axis_fastest(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, axes={"seq_len": [512, 1024], "batch_size": [1, 2, 4]})
    assert [(job.seq_len, job.batch_size) for job in jobs] == [
        *((512, 1), (512, 2), (512, 4)),
        *((1024, 1), (1024, 2), (1024, 4)),
    ]


def test_zipped_keys_advance_together_inside_the_grid(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, axes={"model": ["a", "b"]}, zip={"seq_len": [512, 1024], "batch_size": [8, 4]})
    found = [(job.model, job.seq_len, job.batch_size) for job in jobs]
    assert found == [("a", 512, 8), ("a", 1024, 4), ("b", 512, 8), ("b", 1024, 4)]


def test_listed_jobs_come_after_the_grid_and_are_crossed_with_nothing(tmp_path: Path) -> None:
    include = [{"seq_len": 64}, {"method": {"kind": "lora", "rank": 8}, "batch_size": 9}]
    jobs = jobs_of(tmp_path, axes={"seq_len": [512, 1024]}, include=include)
    assert [(job.seq_len, job.batch_size) for job in jobs] == [(512, 1), (1024, 1), (64, 1), (2048, 9)]
    assert jobs[-1].method == Lora(rank=8)


def test_a_file_of_listed_jobs_alone_is_just_that_list(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, base={}, include=[{"model": "a"}, {"model": "b"}])
    assert [job.model for job in jobs] == ["a", "b"]


def test_a_base_alone_is_one_job(tmp_path: Path) -> None:
    assert jobs_of(tmp_path) == (JobSpec(model="x"),)


def test_excluded_points_leave_the_grid_but_not_the_list(tmp_path: Path) -> None:
    expansion = expansion_of(
        tmp_path,
        axes={"method": ["full", "lora"], "seq_len": [512, 1024, 2048]},
        exclude=[{"method": "full", "seq_len": [1024, 2048]}, {"method.kind": "lora", "seq_len": 512}],
        include=[{"method": "full", "seq_len": 2048}],
    )
    found = [(job.method.kind, job.seq_len) for job in expansion.jobs]
    assert found == [("full", 512), ("lora", 1024), ("lora", 2048), ("full", 2048)]
    assert expansion.num_excluded == 3


@pytest.mark.parametrize(
    ("match", "num_left"),
    [
        ({"method": {"kind": "qlora", "rank": [4, 8]}}, 2),
        ({"method.rank": 16}, 4),
        ({"method.targets": "v_proj,q_proj"}, 3),
        ({"gradient_checkpointing": True}, 0),
        ({"gpu_memory_bytes": "1TiB"}, 6),
        ({"batch_size": 1}, 0),
    ],
    ids=str,
)
def test_what_is_excluded_is_told_in_any_words_a_job_may_use(
    match: dict[str, Any], num_left: int, tmp_path: Path
) -> None:
    axes = {"method.rank": [4, 8, 16], "method.targets": ["all-linear", "q_proj,v_proj"]}
    jobs = jobs_of(tmp_path, base={"model": "x", "method": "qlora"}, axes=axes, exclude=[match])
    assert len(jobs) == num_left


def test_a_key_of_another_method_is_left_out_and_the_point_collapses(tmp_path: Path) -> None:
    expansion = expansion_of(tmp_path, axes={"method": ["full", "lora"], "method.rank": [8, 16, 32]})
    assert [job.method for job in expansion.jobs] == [Full(), Lora(rank=8), Lora(rank=16), Lora(rank=32)]
    assert expansion.num_duplicates == 2
    assert expansion.invalid == ()


def test_a_methods_name_keeps_the_bases_keys_that_it_has(tmp_path: Path) -> None:
    base = {"model": "x", "method": {"kind": "qlora", "rank": 4, "double_quant": False}}
    assert [
        job.method for job in jobs_of(tmp_path, base=base, axes={"method": ["full", "lora", "qlora"]})
    ] == [
        Full(),
        Lora(rank=4),
        QLora(rank=4, double_quant=False),
    ]


def test_a_method_written_out_replaces_the_bases(tmp_path: Path) -> None:
    base = {"model": "x", "method": {"kind": "qlora", "rank": 4}}
    (job,) = jobs_of(tmp_path, base=base, axes={"method": [{"kind": "qlora", "alpha": 8}]})
    assert job.method == QLora(alpha=8)


def test_keys_of_a_method_wait_for_a_kind(tmp_path: Path) -> None:
    base = {"model": "x", "method": {"rank": 4, "quant": "fp4"}}
    jobs = jobs_of(tmp_path, base=base, axes={"method": ["lora", "qlora"]})
    assert [job.method.model_dump()["rank"] for job in jobs] == [4, 4]
    assert jobs_of(tmp_path, base=base)[0].method.kind == "qlora"


def test_a_combination_that_is_no_job_is_kept_apart_with_its_reason(tmp_path: Path) -> None:
    axes = {"attention_mask": ["full", "padded"], "seq_len": [1, 512]}
    expansion = expansion_of(tmp_path, axes=axes)
    assert len(expansion.jobs) == 3
    (invalid,) = expansion.invalid
    assert dict(invalid.values) == {"attention_mask": "padded", "seq_len": 1}
    assert invalid.reason == "a padded batch needs seq_len above 1"


def test_a_combination_that_is_no_job_can_be_excluded(tmp_path: Path) -> None:
    axes = {
        "gradient_checkpointing.enabled": [True, False],
        "gradient_checkpointing.reentrant": [False, True],
    }
    exclude = [{"gradient_checkpointing": {"enabled": False, "reentrant": True}}]
    expansion = expansion_of(tmp_path, axes=axes, exclude=exclude)
    assert (len(expansion.jobs), expansion.invalid, expansion.num_excluded) == (3, (), 1)


def test_real_cards_by_number_are_one_card(tmp_path: Path) -> None:
    expansion = expansion_of(tmp_path, axes={"gpu": ["real", "real:0", "real:1", "auto", "a40"]})
    assert [job.gpu for job in expansion.jobs] == ["real", "auto", "a40"]


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


AXES: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["a", "b", "c"]),
    "method": st.sampled_from(
        ["full", "lora", "qlora", "int8-lora", {"kind": "lora", "rank": 2}, {"kind": "full"}]
    ),
    "method.kind": st.sampled_from(["full", "lora"]),
    "method.rank": st.integers(1, 64),
    "method.quant": st.sampled_from(["nf4", "fp4"]),
    "method.targets": st.sampled_from(["all-linear", "q,v", ["v", "q"]]),
    "precision": st.sampled_from(["bf16", "fp32"]),
    "batch_size": st.integers(1, 4),
    "seq_len": st.integers(1, 4),
    "gradient_checkpointing": st.sampled_from([True, False, {"reentrant": True}]),
    "gradient_checkpointing.reentrant": st.booleans(),
    "attention_mask": st.sampled_from(["full", "padded", "none"]),
    "gpu": st.sampled_from(["auto", "real", "real:1", "rtx-4090"]),
    "gpu_memory_bytes": st.sampled_from([None, "1GiB", 2**31]),
}
NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates(),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), below, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def axis_items(draw: st.DrawFn, *, num: int) -> dict[str, list[Any]]:
    keys = draw(st.lists(st.sampled_from(sorted(AXES)), max_size=num, unique=True))
    return {key: draw(st.lists(AXES[key], min_size=1, max_size=3)) for key in keys}


@st.composite
def parts_of_jobs(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from(sorted(AXES)), max_size=3, unique=True))
    return {key: draw(AXES[key]) for key in keys}


@st.composite
def sweep_files(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly sound sweep files; in about half of them something is broken at a random place."""
    tree: dict[str, Any] = {
        "name": "random",
        "base": {"model": "x", **draw(parts_of_jobs())},
        "axes": draw(axis_items(num=3)),
        "include": draw(st.lists(parts_of_jobs(), max_size=2)),
        "exclude": draw(st.lists(parts_of_jobs().filter(bool), max_size=2)),
    }
    if draw(st.booleans()):
        length = draw(st.integers(1, 2))
        keys = draw(st.lists(st.sampled_from(sorted(AXES)), max_size=2, unique=True))
        tree["zip"] = {key: draw(st.lists(AXES[key], min_size=length, max_size=length)) for key in keys}
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        part = tree[draw(st.sampled_from(sorted(tree)))]
        if isinstance(part, dict):
            part[draw(st.sampled_from([*part, "mdoel", "seq_len", "method"]) | st.text(max_size=5))] = draw(
                NOISE
            )
        else:
            tree[draw(st.sampled_from([*tree, "axs"]))] = draw(NOISE)
    return tree


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=sweep_files())
def test_any_file_expands_or_fails_with_one_clear_line(
    tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        sweep = load_sweep(path)
    except ConfigError as error:
        said = f"{error.message} {error.hint}"
        assert str(path) in said
        assert not any(noise in said for noise in ("\n", "pydantic", "Input should", "type=", "JobSpec"))
        return
    expansion = expand(sweep)
    assert expand(load_sweep(path)) == expansion
    assert len(set(expansion.jobs)) == len(expansion.jobs)
    assert all(invalid.reason and "\n" not in invalid.reason for invalid in expansion.invalid)
    columns = [*sweep.axes.values(), *list(sweep.zip.values())[:1]]
    has_grid = bool(columns or not sweep.include)
    num_points = len(list(itertools.product(*columns))) * has_grid + len(sweep.include)
    counted = len(expansion.jobs) + len(expansion.invalid) + expansion.num_excluded + expansion.num_duplicates
    assert counted == num_points


FLAT = ["model", "precision", "batch_size", "seq_len"]


@given(
    axes=st.lists(st.sampled_from(FLAT), unique=True).flatmap(
        lambda keys: st.fixed_dictionaries(
            {key: st.lists(AXES[key], min_size=1, max_size=3, unique=True) for key in keys}
        )
    )
)
def test_a_grid_is_the_product_of_its_axes(
    axes: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    jobs = jobs_of(tmp_path_factory.getbasetemp(), axes=axes)
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    assert jobs == tuple(JobSpec.model_validate({"model": "x", **point}) for point in points)


def test_a_sweep_is_a_frozen_value() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Sweep(name="x").name = "y"  # type: ignore[misc]
