from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from profiler.records.compare import compare_sides
from profiler.report.base.changes import MAX_SHOWN, comparison_tree, show_change, verdict
from profiler.report.markdown.comparisons import changes_markdown
from profiler.report.terminal.comparisons import show_changes
from profiler.units import GIB
from tests.unit.records.test_compare import a_failure, a_run_of, sides

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from profiler.records.compare import Comparison


@pytest.fixture
def comparison() -> Comparison:
    before = [a_run_of(4 * GIB, seq_len=length) for length in (512, 1024, 2048, 4096)]
    after = [
        a_run_of(4 * GIB, seq_len=512, torch="2.15.0"),
        a_run_of(4 * GIB + 512, seq_len=1024, torch="2.15.0"),
        a_failure(seq_len=2048),
        a_run_of(GIB, seq_len=8192, torch="2.15.0"),
    ]
    return compare_sides(*sides(before, after))


def shown(comparison: Comparison, *, limit: Fraction | None = None) -> str:
    console = Console(file=io.StringIO(), width=140, highlight=False, markup=False, emoji=False)
    show_changes(console, comparison, limit=limit, figure="allocated")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_comparison_on_a_terminal(comparison: Comparison, snapshot: SnapshotAssertion) -> None:
    assert shown(comparison, limit=Fraction("0.02")) == snapshot


def test_a_comparison_in_markdown(comparison: Comparison, snapshot: SnapshotAssertion) -> None:
    assert changes_markdown(comparison, limit=Fraction("0.02"), figure="allocated") == snapshot


def test_a_comparison_as_data(comparison: Comparison) -> None:
    tree = comparison_tree(comparison, limit=Fraction("0.02"), figure="allocated")
    assert (tree["num_in_both"], tree["num_same"], tree["num_over"]) == (3, 1, 1)
    assert isinstance(tree["changed"], list)
    first, second = tree["changed"]
    assert (first["outcome"], first["is_over"], first["allocated_bytes"]) == (["ok", "oom"], True, None)
    assert second["allocated_bytes"] == [4 * GIB, 4 * GIB + 512]
    assert second["allocated_change"] == pytest.approx(512 / (4 * GIB))


def test_without_a_limit_there_is_no_verdict(comparison: Comparison) -> None:
    assert "more than" not in shown(comparison)
    assert comparison_tree(comparison, limit=None, figure="allocated")["num_over"] == 0


def test_a_long_list_says_how_much_is_left_out() -> None:
    before = [a_run_of(GIB, seq_len=length) for length in range(1, MAX_SHOWN + 4)]
    after = [a_run_of(2 * GIB, seq_len=length) for length in range(1, MAX_SHOWN + 4)]
    comparison = compare_sides(*sides(before, after))
    assert "and 3 more: --json lists all" in shown(comparison)
    markdown = changes_markdown(comparison, limit=None, figure="allocated")
    assert markdown.count("+100.00 %") == 2 * len(before)


def test_nothing_over_the_limit_is_said_too(comparison: Comparison) -> None:
    same = compare_sides(comparison.before, comparison.before)
    assert verdict(same, limit=Fraction("0.02"), figure="reserved") == (
        "no job changed its outcome, or its peak reserved by more than 2 %"
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "-"),
        (0.0, "0 %"),
        (0.0231, "+2.31 %"),
        (-0.5, "-50.00 %"),
        (0.00001, "+0.001 %"),
        (-1.2e-7, "-1e-05 %"),
    ],
)
def test_a_change_is_shown_with_its_sign_and_never_as_nothing(share: float | None, text: str) -> None:
    assert show_change(share) == text
