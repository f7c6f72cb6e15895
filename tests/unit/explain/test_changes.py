from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from profiler.explain.changes import Lever, possible_changes
from profiler.explain.effects import NUM_RUN, most_promising
from profiler.explain.settings import BetterSettings
from profiler.jobs.flags import read_job
from profiler.jobs.job import METHODS
from profiler.units import GIB
from tests.builders import a_job, a_record

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

JOBS: list[dict[str, Any]] = [
    {},
    {"method": "full", "batch_size": 4, "gradient_checkpointing": False},
    {"method": "lora", "attention": "eager", "precision": "fp32"},
    {"method": "int8-lora", "seq_len": 600, "loop": "trainer", "optimizer": "paged_adamw_8bit"},
    {"method": "inference", "alloc_conf": "max_split_size_mb:64"},
    {"method": "lora", "eval_batches": 4},
    {"method": {"kind": "qlora", "rank": 8, "targets": "q_proj"}, "optimizer": "sgd"},
]


def with_flags(spec: JobSpec, text: str) -> JobSpec:
    """The job that a configuration file and some more flags describe."""
    flags: dict[str, object] = {}
    for word in shlex.split(text):
        if word.startswith("--"):
            flags[word.removeprefix("--").replace("-", "_")] = True
        else:
            flags[next(reversed(flags))] = word
    return read_job(flags, data=spec.model_dump(mode="json"), environ={})[0]


@pytest.mark.parametrize("values", JOBS, ids=str)
def test_a_change_is_what_its_flags_describe(values: dict[str, Any]) -> None:
    spec = a_job(**values)
    changes = possible_changes(spec)
    assert changes
    for change in changes:
        assert change.spec != spec
        assert with_flags(spec, change.flags) == change.spec
        assert change.cost


def test_a_job_that_has_it_already_is_not_told_to_do_it() -> None:
    spec = a_job(
        loop="trainer", optimizer="paged_adamw_8bit", alloc_conf="expandable_segments:True", seq_len=256
    )
    assert possible_changes(spec) == []


def test_better_settings_of_the_allocator_are_a_change_where_they_are_known() -> None:
    spec = a_job(alloc_conf="max_split_size_mb:64")
    conf = "max_split_size_mb:64,expandable_segments:True"
    (change,) = [one for one in possible_changes(spec, alloc_conf=conf) if one.kind is Lever.ALLOCATOR]
    assert change.spec.alloc_conf == conf
    assert with_flags(spec, change.flags) == change.spec
    assert Lever.ALLOCATOR not in [one.kind for one in possible_changes(spec)]


def test_an_adapter_keeps_its_rank_where_its_base_is_quantized() -> None:
    spec = a_job(method={"kind": "lora", "rank": 64, "targets": "q_proj"})
    (change,) = [one for one in possible_changes(spec) if one.spec.method.kind == "qlora"]
    assert change.spec.method.rank == 64  # type: ignore[union-attr]
    assert change.spec.method.targets == ("q_proj",)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", METHODS)
def test_only_the_most_promising_change_of_a_kind_is_run(kind: str) -> None:
    record = a_record(spec=a_job(method=kind, batch_size=4))
    found = most_promising(record, None)
    assert 0 < len(found) <= NUM_RUN
    assert len({change.kind for change in found}) == len(found)


def test_a_job_with_much_logits_is_told_to_let_go_of_them() -> None:
    found = most_promising(a_record(spec=a_job(method="qlora", seq_len=4096)), None)
    assert {"--loop trainer", "--seq-len 2048"} <= {change.flags for change in found}


@pytest.mark.parametrize(("saved_bytes", "place"), [(90 * GIB, 0), (1, -1)])
def test_the_allocators_settings_are_ranked_by_what_the_replay_says_they_save(
    saved_bytes: int, place: int
) -> None:
    record = a_record(spec=a_job(method="full", batch_size=4, seq_len=128))
    better = BetterSettings(alloc_conf="expandable_segments:True", saved_bytes=saved_bytes)
    kinds = [change.kind for change in most_promising(record, better)]
    assert len(kinds) > 2
    assert kinds[place] is Lever.ALLOCATOR


def test_changes_are_run_where_no_formula_knows_the_model() -> None:
    spec = a_job(model="bert-base-uncased", task="sequence-classification", method="full", seq_len=512)
    record = a_record(spec=spec)
    changes = most_promising(record, None)
    assert 1 < len(changes) <= NUM_RUN
    assert len({change.kind for change in changes}) == len(changes)
