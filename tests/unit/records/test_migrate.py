from __future__ import annotations

import json
from typing import Any

import pytest

from profiler.records.frame import to_frame
from profiler.records.migrate import MIGRATIONS, NotARecordError, migrate, parse_record
from profiler.records.schema import SCHEMA_VERSION
from tests.builders import a_record


def test_a_record_of_today_is_read_as_it_is() -> None:
    assert parse_record(a_record().model_dump_json()) == a_record()


def test_older_records_are_brought_forward_one_version_at_a_time() -> None:
    steps = {1: lambda tree: {**tree, "b": tree["a"] + 1}, 2: lambda tree: {"c": tree["b"] * 10}}
    assert migrate({"schema_version": 1, "a": 1}, migrations=steps, to_version=3) == {
        "schema_version": 3,
        "c": 20,
    }
    assert migrate({"schema_version": 2, "b": 5}, migrations=steps, to_version=3)["c"] == 50


def test_a_newer_version_is_named() -> None:
    with pytest.raises(NotARecordError, match="schema version 4 is newer than 3"):
        migrate({"schema_version": 4}, to_version=3)


def test_every_version_before_todays_has_its_migration() -> None:
    assert set(MIGRATIONS) == set(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("peak.allocated_bytes", 2**63),
        ("phases.0.allocated_end_bytes", 10**40),
        ("spec.batch_size", 2**64),
        ("outcome.exit_code", -(2**63) - 1),
    ],
)
def test_a_number_that_no_table_can_hold_is_refused(where: str, number: int) -> None:
    tree = a_record().model_dump(mode="json")
    part: Any = tree
    names = where.split(".")
    for name in names[:-1]:
        part = part[int(name) if name.isdigit() else name]
    part[names[-1]] = number
    with pytest.raises(NotARecordError, match=f"^{where} is beyond 64 bits$"):
        parse_record(json.dumps(tree))


def test_the_largest_number_that_a_table_can_hold_is_read() -> None:
    tree = a_record().model_dump(mode="json")
    tree["peak"]["allocated_bytes"] = 2**63 - 1
    row = to_frame([parse_record(json.dumps(tree))]).iloc[0]
    assert row["peak.allocated_bytes"] == 2**63 - 1


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 5000, '{"schema_version": true}'])
def test_no_text_is_taken_for_a_record(text: str) -> None:
    with pytest.raises(NotARecordError):
        parse_record(text)
