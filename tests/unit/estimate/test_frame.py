from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.estimate.estimate import Estimate, Estimated, estimate_jobs
from profiler.estimate.factors import FactorFile, default_factors
from profiler.estimate.frame import estimate_frame, group_frame
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.jobs.job import JobSpec
from profiler.jobs.keys import flatten
from profiler.jobs.load import Tree, job_from, set_value
from profiler.records.frame import to_frame
from tests.builders import a_job, a_record
from tests.unit.fit.by_hand import a_formula, some_factors

if TYPE_CHECKING:
    from profiler.formula.breakdown import Formula

FORMULA = a_formula()

a_row = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["llama-3.1-8b", "smollm2-135m", "no-such-model"]),
        "method.kind": st.sampled_from(["full", "lora", "qlora"]),
        "gpu": st.sampled_from(["rtx-4090", "a100-80gb", "no-such-card"]),
    },
    optional={
        "precision": st.sampled_from(["bf16", "fp32"]),
        "gradient_checkpointing.enabled": st.booleans(),
        "attention": st.sampled_from(["sdpa", "eager"]),
        "batch_size": st.integers(1, 64),
        "seq_len": st.integers(2, 200_000),
    },
)


def spec_of(row: dict[str, Any]) -> JobSpec:
    tree: Tree = {}
    for key, value in row.items():
        tree = set_value(tree, key, value)
    return job_from(tree)


def as_row(estimated: Estimated) -> dict[str, object]:
    if not isinstance(estimated, Estimate):
        return {"refusal": estimated.reason}
    corrected = estimated.corrected
    row: dict[str, object] = {
        "instant": corrected.breakdown.peak.name,
        "fits": str(estimated.verdict.fits),
        "formula": estimated.formula.id,
    }
    for name in ("allocated", "reserved", "device_used"):
        if band := getattr(corrected, name):
            ends = {"": band.value_bytes, "_low": band.low_bytes, "_high": band.high_bytes}
            row |= {f"{name}{end}_bytes": count for end, count in ends.items() if count is not None}
    return row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formula", "factors"),
    [(FORMULA, some_factors()), (FORMULA, None), (PEAKVRAM, default_factors()), (PEAKVRAM, None)],
    ids=["by hand, corrected", "by hand", "peakvram, corrected", "peakvram"],
)
@given(rows=st.lists(a_row, min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_table_of_jobs_gives_what_each_job_gives_alone(
    formula: Formula, factors: FactorFile | None, rows: list[dict[str, Any]]
) -> None:
    estimates = estimate_frame(pd.DataFrame(rows), formula=formula, factors=factors)
    found = [
        {str(name).removeprefix("estimate."): value for name, value in row.items() if not pd.isna(value)}
        for row in estimates.to_dict("records")
    ]
    alone = estimate_jobs([spec_of(row) for row in rows], formula=formula, factors=factors)
    assert found == [as_row(estimated) for estimated in alone]


def test_the_table_of_a_study_can_be_estimated_as_it_is() -> None:
    specs = [a_job(method="lora"), a_job(method="full"), a_job(method={"kind": "qlora", "targets": "q_proj"})]
    frame = to_frame([a_record(spec=spec) for spec in specs]).set_index(pd.Index(["a", "b", "c"]))
    assert {group.job for group in group_frame(frame)} == set(specs)
    estimates = estimate_frame(frame, formula=FORMULA, factors=some_factors())
    assert list(estimates.index) == ["a", "b", "c"]
    assert estimates["estimate.refusal"].tolist()[1] == "it speaks of adapters only"
    assert estimates["estimate.allocated_bytes"].isna().tolist() == [False, True, False]
    assert str(estimates["estimate.allocated_bytes"].dtype) == "Int64"


def test_a_table_read_from_csv_is_the_same_table() -> None:
    specs = [a_job(method={"kind": "lora", "rank": 8}), a_job(method="full", gradient_checkpointing=False)]
    text = io.StringIO()
    to_frame([a_record(spec=spec) for spec in specs]).to_csv(text, index=False)
    text.seek(0)
    assert [group.job for group in group_frame(pd.read_csv(text))] == specs


def test_every_field_of_a_job_tells_jobs_apart() -> None:
    changes: list[dict[str, Any]] = [{}, {"precision": "fp32"}, {"loop": "trainer"}, {"steps": 1}]
    specs = [a_job(method="lora", **change) for change in changes]
    frame = pd.DataFrame([flatten(spec.model_dump(mode="json")) for spec in specs])
    assert len(list(group_frame(frame))) == 4


def test_lists_of_names_tell_jobs_apart_however_they_are_written() -> None:
    methods = [{"kind": "lora", "modules_to_save": names} for names in ([], ["embed_tokens", "lm_head"])]
    specs = [a_job(method=method) for method in methods]
    as_lists = pd.DataFrame([flatten(spec.model_dump(mode="json")) for spec in specs])
    as_texts = to_frame([a_record(spec=spec) for spec in specs])
    for frame in (as_lists, as_texts):
        assert [group.job for group in group_frame(frame)] == specs


def test_what_a_row_does_not_say_is_the_default_of_a_job() -> None:
    frame = pd.DataFrame({"model": ["llama-3.1-8b"] * 2, "seq_len": [pd.NA, 512], "note": ["x", "y"]})
    (group,) = group_frame(frame)
    assert group.job == JobSpec(model="llama-3.1-8b", seq_len=512)
    assert list(group.shape.seq_len) == [2048, 512]  # type: ignore[arg-type]
    assert list(group.shape.batch_size) == [1, 1]  # type: ignore[arg-type]


def test_a_table_without_rows_gives_one_without_rows() -> None:
    estimates = estimate_frame(pd.DataFrame({"model": []}), formula=FORMULA, factors=some_factors())
    assert estimates.empty
    assert "estimate.device_used_high_bytes" in estimates.columns


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"model": ["m"], "method.kind": ["qlra"]}, "row 0: method"),
        ({"model": ["m", "m"], "seq_len": [512, 0]}, "row 0: seq_len"),
        ({"model": ["m", "m"], "batch_size": [1, 70_000]}, "row 0: batch_size"),
        ({"model": ["m"], "seq_len": [512.5]}, "column seq_len holds more than whole numbers"),
        ({"model": ["m"], "seq_len": ["many"]}, "column seq_len holds more than whole numbers"),
        ({"seq_len": [512]}, "row 0: model"),
    ],
)
def test_a_row_that_is_no_job_is_named(columns: dict[str, list[object]], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        estimate_frame(pd.DataFrame(columns), formula=FORMULA, factors=None)
    assert raised.value.message.startswith(said)
