from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.jobs.choices import InferenceQuant
from profiler.jobs.expansion import expand
from profiler.jobs.job import Full, Inference, JobSpec, Lora, QLora
from profiler.jobs.sweep import load_sweep
from tests.unit.jobs.sweeps import expansion_of, jobs_of

if TYPE_CHECKING:
    from pathlib import Path


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


def test_what_only_training_has_is_left_out_of_inference(tmp_path: Path) -> None:
    base = {"model": "x", "gradient_checkpointing": False, "steps": 2}
    axes = {"method": ["lora", "inference"], "optimizer": ["sgd", "adafactor"]}
    expansion = expansion_of(tmp_path, base=base, axes=axes)
    assert [(job.method.kind, str(job.optimizer), job.steps) for job in expansion.jobs] == [
        ("lora", "sgd", 2),
        ("lora", "adafactor", 2),
        ("inference", "adamw_torch", 3),
    ]
    assert (expansion.num_duplicates, expansion.invalid) == (1, ())


def test_what_only_one_task_has_is_left_out_of_the_others(tmp_path: Path) -> None:
    axes = {"task": ["causal-lm", "token-classification", "seq2seq-lm"], "num_labels": [3, 9]}
    expansion = expansion_of(tmp_path, base={"model": "x", "target_len": 64}, axes=axes)
    assert [(str(job.task), job.num_labels, job.target_len) for job in expansion.jobs] == [
        ("causal-lm", 2, None),
        ("token-classification", 3, None),
        ("token-classification", 9, None),
        ("seq2seq-lm", 2, 64),
    ]
    assert (expansion.num_duplicates, expansion.invalid) == (2, ())


def test_an_axis_of_types_is_read_for_the_method_that_has_them(tmp_path: Path) -> None:
    axes = {"method": ["qlora", "inference"], "method.quant": ["nf4", "int8"]}
    expansion = expansion_of(tmp_path, base={"model": "x"}, axes=axes)
    assert [job.method for job in expansion.jobs] == [
        QLora(),
        Inference(quant=InferenceQuant.NF4),
        Inference(quant=InferenceQuant.INT8),
    ]
    (point,) = expansion.invalid
    assert point.reason == "method.quant: 'int8' is not one of its values"


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
