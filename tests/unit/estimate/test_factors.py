from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.estimate.factors import (
    Correction,
    Factor,
    FactorFile,
    FactorGroup,
    FittedOn,
    FormulaFactors,
    IntervalGroup,
    conditions_of,
    default_factors,
    most_specific,
    read_factors,
    write_factors,
)
from tests.builders import a_job

if TYPE_CHECKING:
    from pathlib import Path

POSITIVE = st.floats(1e-6, 1e6)
FACTORS = st.one_of(
    st.builds(Factor, value=st.floats(0, 1e6), low=st.floats(0, 1e6), high=st.floats(0, 1e6)),
    st.builds(
        Factor,
        value=st.just(1.0),
        low=st.just(1.0),
        high=st.just(1.0),
        status=st.just("undetermined"),
        reason=st.text(min_size=1),
    ),
)
WHERE: st.SearchStrategy[dict[str, str | bool]] = st.fixed_dictionaries(
    {}, optional={"method": st.sampled_from(["full", "lora"]), "checkpointing": st.booleans()}
)
PARTS = st.builds(
    Correction,
    factors=st.lists(
        st.builds(
            FactorGroup,
            where=WHERE,
            factors=st.dictionaries(st.text(min_size=1), FACTORS, max_size=3),
            num_records=st.integers(0, 10**6),
            num_models=st.integers(0, 100),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    intervals=st.lists(
        st.builds(IntervalGroup, where=WHERE, low=POSITIVE, high=POSITIVE, num_records=st.integers(0, 10**6)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    reason=st.text(),
)
FITTED_ON = FittedOn(
    device_kinds=("virtual",),
    studies=("rtx-4090",),
    num_records=486,
    keys_sha256="0" * 64,
    models=("llama-3.1-8b",),
    cards=("rtx-4090",),
    versions={"torch": ("2.14.1",)},
)


def a_file(**formulas: FormulaFactors) -> FactorFile:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    return FactorFile(schema_version=1, created_at=at, fitted_on=FITTED_ON, formulas=formulas)


def a_group(**where: Any) -> FactorGroup:
    return FactorGroup(where=where, factors={}, num_records=1, num_models=1)


@given(
    st.builds(FormulaFactors, allocated=PARTS, reserved_gap=st.none() | PARTS, device_gap=st.none() | PARTS)
)
def test_a_written_file_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, found: FormulaFactors
) -> None:
    path = tmp_path_factory.mktemp("factors") / "factors.json"
    write_factors(path, a_file(ours=found))
    assert read_factors(path) == a_file(ours=found)


def test_a_file_says_its_version(tmp_path: Path) -> None:
    path = tmp_path / "factors.json"
    write_factors(path, a_file())
    assert json.loads(path.read_text())["schema_version"] == 1


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"formulas": {"ours": {}}}, "formulas.ours.allocated"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_no_factor_file_is_refused_with_its_place(
    changes: dict[str, object], place: str, tmp_path: Path
) -> None:
    path = tmp_path / "factors.json"
    path.write_text(json.dumps(json.loads(a_file().model_dump_json()) | changes))
    with pytest.raises(ConfigError) as caught:
        read_factors(path)
    assert caught.value.message.startswith(f"{path} is no factor file at {place}: ")
    assert "`peakvram fit`" in caught.value.hint


def test_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "factors.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="is no factor file: invalid json"):
        read_factors(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*factors\.json: no such file or directory"):
        read_factors(tmp_path / "factors.json")


def test_the_most_specific_group_applies() -> None:
    job = a_job(method="lora", gradient_checkpointing=True)
    conditions = conditions_of(job)
    assert conditions == {"method": "lora", "checkpointing": True, "attention": "sdpa"}
    every, lora, both = a_group(), a_group(method="lora"), a_group(method="lora", checkpointing=True)
    other = a_group(method="full", checkpointing=True, attention="sdpa")
    assert most_specific((every, other, both, lora), conditions) is both
    assert most_specific((every, other, lora), conditions) is lora
    assert most_specific((every, other), conditions) is every


def test_the_shipped_factors_are_of_formulas_there_are() -> None:
    from profiler.formula.catalogue import find_formula

    shipped = default_factors()
    assert shipped.fitted_on.device_kinds == ("virtual",)
    assert shipped.fitted_on.num_records > 1000
    for name, found in shipped.formulas.items():
        assert find_formula(name).id == name
        for part in (found.allocated, found.reserved_gap, found.device_gap):
            assert part is not None
            assert part.factors[0].where == {}
            assert part.intervals[0].where == {}
