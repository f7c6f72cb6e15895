from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from profiler.explain.changes import possible_changes
from profiler.explain.effects import NUM_RUN, most_promising
from profiler.jobs.flags import read_job
from profiler.jobs.job import METHODS
from profiler.records.schema import Peak
from profiler.units import GIB
from tests.builders import a_job, a_record

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

JOBS: list[dict[str, Any]] = [
    {},
    {"method": "full", "batch_size": 4, "gradient_checkpointing": False},
    {"method": "lora", "attention": "eager", "precision": "fp32"},
    {"method": "int8-lora", "seq_len": 300, "loop": "trainer", "optimizer": "paged_adamw_8bit"},
    {"method": "inference", "alloc_conf": "max_split_size_mb:64"},
    {"method": {"kind": "qlora", "rank": 8, "targets": "q_proj"}, "optimizer": "sgd"},
]


def with_flags(spec: JobSpec, text: str) -> JobSpec:
    """The job that a configuration file and some more flags describe."""
    flag, *values = shlex.split(text)
    flags = {flag.removeprefix("--").replace("-", "_"): values[0] if values else True}
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


def test_other_settings_of_the_allocator_are_kept() -> None:
    spec = a_job(alloc_conf="max_split_size_mb:64")
    (change,) = [one for one in possible_changes(spec) if one.spec.alloc_conf != spec.alloc_conf]
    assert change.spec.alloc_conf == "max_split_size_mb:64,expandable_segments:True"


def test_an_adapter_keeps_its_rank_where_its_base_is_quantized() -> None:
    spec = a_job(method={"kind": "lora", "rank": 64, "targets": "q_proj"})
    (change,) = [one for one in possible_changes(spec) if one.spec.method.kind == "qlora"]
    assert change.spec.method.rank == 64  # type: ignore[union-attr]
    assert change.spec.method.targets == ("q_proj",)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", METHODS)
def test_only_the_most_promising_change_of_a_kind_is_run(kind: str) -> None:
    record = a_record(spec=a_job(method=kind, batch_size=4))
    found = most_promising(record)
    assert 0 < len(found) <= NUM_RUN
    assert len({change.kind for change in found}) == len(found)


def test_a_job_with_much_logits_is_told_to_let_go_of_them() -> None:
    found = most_promising(a_record(spec=a_job(method="qlora", seq_len=4096)))
    assert {"--loop trainer", "--seq-len 2048"} <= {change.flags for change in found}


def test_the_allocators_setting_is_tried_where_much_is_reserved_and_not_allocated() -> None:
    record = a_record(spec=a_job(method="full", batch_size=4, seq_len=128))
    flags = "--alloc-conf expandable_segments:True"
    for gap, is_tried in ((20 * GIB, True), (0, False)):
        peak = Peak(allocated_bytes=GIB, reserved_bytes=GIB + gap)
        found = most_promising(record.model_copy(update={"peak": peak}))
        assert (flags in [change.flags for change in found]) is is_tried
