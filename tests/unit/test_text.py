from __future__ import annotations

import csv

import pytest

from profiler.text import as_cell, csv_text, in_one_line, shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a model", "a model"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31mred", r"\x9b31mred"),
        ("a\rb\tc\0", r"a\rb\tc\x00"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
    ],
)
def test_what_a_terminal_would_act_on_is_made_visible(text: str, safe: str) -> None:
    assert shown(text) == safe


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\rx", "\n=x", "\uff1d1+1"])
def test_a_cell_that_begins_like_a_formula_has_an_apostrophe_in_front(text: str) -> None:
    assert as_cell(text) == "'" + shown(text)


@pytest.mark.parametrize("text", ["-1", "+0.5", "-1e-9", "-.5", "1", "", "a=b", "'=1"])
def test_numbers_and_other_texts_stay_as_they_are(text: str) -> None:
    assert as_cell(text) == text


def test_a_table_has_numbers_as_numbers_and_nothing_where_nothing_is_known() -> None:
    text = csv_text(["name", "bytes", "share"], [["=evil()", -5, None], ['a "b", c', 1.5, "-0.25"]])
    assert list(csv.reader(text.splitlines())) == [
        ["name", "bytes", "share"],
        ["'=evil()", "-5", ""],
        ['a "b", c', "1.5", "-0.25"],
    ]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (None, "no reason is known"),
        ("ValueError: of two\nlines\n", "lines"),
        (
            "ValueError: x\nraised in peft 0.21.2, peft/a.py:1 (f)\nhint: choose another",
            "ValueError: x (choose another)",
        ),
        ("ValueError: x\nraised in torch 2.14.1, torch/a.py:1 (f), at layers.0 (Block)", "ValueError: x"),
    ],
)
def test_a_message_in_one_line_is_its_last_words_and_its_hint(message: str | None, line: str) -> None:
    assert in_one_line(message) == line
