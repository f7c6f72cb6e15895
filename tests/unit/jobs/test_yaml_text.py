from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiler.jobs.yaml_text import YamlError, parse_yaml
from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NINE = "[" + ",".join(["x"] * 9) + "]"


class DatesAsText(yaml.SafeLoader):
    yaml_constructors = {  # noqa: RUF012 - as its parent has it
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_scalar,
    }


def laughs(num_levels: int) -> str:
    """Lists of nine aliases of the list before: nine to the power of the levels."""
    lines = [f"a0: &a0 {NINE}"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, num_levels)]
    return "\n".join(lines)


def problem_of(text: str) -> str | None:
    try:
        parse_yaml(text)
    except YamlError as error:
        return error.problem
    return None


def refusal_of(text: str) -> str:
    started_s = time.monotonic()
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert time.monotonic() - started_s < 5  # on a machine that does much else
    return f"{caught.value.place.removeprefix(', ')}: {caught.value.problem}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_our_own_files_are_read_as_any_safe_reader_does(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert repr(parse_yaml(text)) == repr(yaml.load(text, Loader=DatesAsText))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("[8, 0x10, 1_000, -3]", [8, 16, 1000, -3]),
        ("[1.5, 1e-4, .inf]", [1.5, "1e-4", float("inf")]),
        ("[true, no, 'no']", [True, False, "no"]),
        ("2001-99-99", "2001-99-99"),
        ("2026-11-29", "2026-11-29"),
        ("!!int '3'", 3),
        ("!!str 3", "3"),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
        ("{a: &x {k: 1, l: 2}, b: {<<: *x, l: 3}}", {"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 3}}),
        ("{<<: [{a: 1}, {a: 2, b: 2}]}", {"a": 1, "b": 2}),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_a_value_is_read(text: str, value: object) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (laughs(9), "line 5: holds more than 50,000 values, aliases counted as what they stand for"),
        ("a: &a\n- *a\n", "line 2: *a names nothing before it, or what it stands in"),
        ("&a\nmodel: *a\n", "line 2: *a names nothing before it, or what it stands in"),
        ("a: *b\n", "line 1: *b names nothing before it, or what it stands in"),
        ("a: 1\nb: !!int abc\n", "line 2: 'abc' is no int"),
        ('!!int ""', "line 1: '' is no int"),
        ("!!float abc", "line 1: 'abc' is no float"),
        ("!!bool xyz", "line 1: 'xyz' is no bool"),
        ("!!binary '%%%'", "line 1: the tag '!!binary' cannot stand here"),
        ("!!set [1]", "line 1: the tag '!!set' cannot stand here"),
        ("!!omap [1]", "line 1: the tag '!!omap' cannot stand here"),
        ("!own 1", "line 1: the tag '!own' cannot stand here"),
        (
            "!!python/object/apply:os.system ['touch x']",
            "line 1: the tag '!!python/object/apply:os.system' cannot stand here",
        ),
        ("a: 1\n? [1, 2]\n: x\n", "line 2: a key is a single value"),
        ("? {a: b}\n: x\n", "line 1: a key is a single value"),
        ("a: 1\na: 2\n", "line 2: the key 'a' is given twice"),
        ("1: a\n0x1: b\n", "line 2: the key 1 is given twice"),
        ("{<<: {a: 1}, <<: {b: 1}}", "line 1: the key '<<' is given twice"),
        ("<<: 3\n", "line 1: expected a mapping behind '<<', or a list of them"),
        ("[" * 51 + "]" * 51, "line 1: is nested too deeply, more than 50 times"),
        ("9" * 5000, "line 1: a number of 5000 digits is beyond what can be told apart"),
        ("0x" + "f" * 5000, "line 1: a number of 5002 digits is beyond what can be told apart"),
        (str(2**63), "line 1: 9223372036854775808 is beyond 64 bits"),
        ('"a\\0b"', "line 1: a text holds a character that no text has"),
        ("a: 1\n---\nb: 1\n", "line 2: a second document begins; there can be one"),
        ("\ud800", ": holds characters that YAML does not allow"),
        ("x" * (2**20 + 1), ": holds 1,048,577 characters, more than 1,048,576"),
    ],
    ids=lambda value: f"{value:.24}",
)
def test_what_cannot_be_read_is_refused_at_once_with_its_line(text: str, problem: str) -> None:
    assert refusal_of(text) == problem


@pytest.mark.parametrize("text", ["[", "{", "- ", "? ", "a: [", "[a, ", "!", "&", "*", "|\n x\n", "x\n"])
def test_a_text_of_one_thing_over_and_over_is_read_or_refused_at_once(text: str) -> None:
    started_s = time.monotonic()
    assert "\n" not in (problem_of(text * (2**20 // len(text))) or "")
    assert time.monotonic() - started_s < 5  # on a machine that does much else


pieces = st.sampled_from(
    [
        *"[]{},:-?!&*|>'\"%@`#=<\n \t~",
        "a",
        "1",
        ": ",
        "- ",
        "<<",
        "*a",
        "&a ",
        "!!int ",
        "!!set ",
        "0x",
        ".inf",
    ]
)


@given(st.lists(pieces | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_is_a_value_or_one_clear_line(text: str) -> None:
    problem = problem_of(text)
    assert problem is None or (problem and "\n" not in problem)


texts = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
        lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4),
        max_leaves=8,
    )
)
def test_what_a_safe_writer_wrote_is_read_back(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value
