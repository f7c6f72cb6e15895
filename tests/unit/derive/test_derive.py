from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.derive.derive import derive
from profiler.derive.observe import CannotFollowError, Point
from profiler.formula.derived.evaluate import DerivedFormula
from profiler.formula.derived.file import pack_derived, read_derived
from profiler.formula.derived.identity import job_fields
from tests.unit.derive.jobs import WORKSPACE_BYTES, MadeUpRuns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from profiler.derive.observe import Observation
    from profiler.formula.derived.evaluate import Replayed
    from profiler.formula.derived.file import DerivedFile

LONGEST = 4096
OTHERS = [
    Point(1, 65),
    Point(1, 1000),
    Point(1, 3333),
    Point(2, 301),
    Point(3, 777),
    Point(4, 130),
    Point(9, 451),
]


def derived(runs: MadeUpRuns, longest: int = LONGEST) -> DerivedFile:
    return derive(runs.as_runs(), key="0" * 16, longest=longest, versions={"torch": "2.14.1"})


def replayed(formula: DerivedFormula, point: Point, regime: int, num_steps: int) -> Replayed:
    return formula.replay(regime, *point, workspace_bytes=WORKSPACE_BYTES, num_steps=num_steps)


def assert_exact(runs: MadeUpRuns, file: DerivedFile, point: Point, num_steps: int = 4) -> None:
    formula = DerivedFormula(file)
    (regime,), is_sure = formula.regimes_at(*point)
    assert is_sure
    assert formula.is_exact(regime, *point)
    said, ran = replayed(formula, point, regime, num_steps), runs.run(point, num_steps=num_steps)
    assert (said.allocated_bytes, said.reserved_bytes) == (ran.allocated_bytes, ran.reserved_bytes)


def padded(multiple: int) -> Callable[[Point], int]:
    return lambda point: 2048 * point.batch_size * -(-point.seq_len // multiple) * multiple


@pytest.mark.parametrize(
    "saved",
    [
        None,
        padded(8),
        padded(16),
        padded(256),
        lambda point: 2 * point.seq_len * point.tokens + 4 * point.tokens,
    ],
    ids=["tokens", "padded to 8", "padded to 16", "padded to 256", "square"],
)
def test_a_formula_says_what_a_run_takes_that_it_was_not_made_from(
    saved: Callable[[Point], int] | None, tmp_path: Path
) -> None:
    runs = MadeUpRuns(saved)
    file = derived(runs)
    assert len(file.regimes) == 2  # a row each
    for point in OTHERS:
        assert point not in runs.asked
        assert_exact(runs, file, point)
    path = tmp_path / "one.json.gz"
    path.write_bytes(pack_derived(file))
    assert read_derived(path) == file


def test_it_says_what_it_is_of_and_how_it_was_checked() -> None:
    runs = MadeUpRuns()
    file = derived(runs)
    assert (file.model, file.card.id, file.versions) == ("llama-3.1-8b", "rtx-4090", {"torch": "2.14.1"})
    assert file.job == job_fields(runs.spec)
    assert file.num_runs == runs.num_done < 60
    assert len(file.checks) >= 4
    assert {check.allocated_difference_bytes for check in file.checks} == {0}
    assert {check.reserved_difference_bytes for check in file.checks} == {0}
    checked = [Point(check.batch_size, check.seq_len) for check in file.checks]
    assert runs.asked[-len(checked) :] == checked
    assert "2048*b*s" in file.sizes
    assert "128*b*up(s,64)" in file.sizes
    assert "workspace" in file.sizes


def test_what_is_written_is_the_same_every_time() -> None:
    assert pack_derived(derived(MadeUpRuns())) == pack_derived(derived(MadeUpRuns()))


@pytest.mark.parametrize("change", [512, 1025, 2048])
def test_where_a_job_does_something_else_is_found_to_the_token(change: int) -> None:
    runs = MadeUpRuns(change=change)
    file = derived(runs)
    regime_of = {one.seq_len: one.regime for one in file.seen if one.batch_size == 1}
    assert (min(regime_of), max(regime_of)) == (64, LONGEST)
    assert regime_of[64] == regime_of[change - 1] != regime_of[change] == regime_of[LONGEST]
    assert len(file.regimes) == 4
    for point in (Point(1, change - 1), Point(1, change), Point(1, 99), Point(1, 4000), Point(2, 99)):
        assert_exact(runs, file, point)


@pytest.mark.parametrize("change", [1021, 2600, 3073])
def test_what_changes_with_the_number_of_tokens_is_known_for_any_rows(change: int) -> None:
    runs = MadeUpRuns(change=change)
    file = derived(runs)
    assert runs.num_done < 75
    assert_exact(runs, file, Point(1, change - 1))
    assert_exact(runs, file, Point(1, change))
    for rows in (2, 3, 4, 7, 11):
        for length in (change // rows - 1, change // rows + 2):
            assert_exact(runs, file, Point(rows, length))


@pytest.mark.parametrize("multiple", [2, 8, 16])
def test_round_lengths_are_told_from_others(multiple: int) -> None:
    runs = MadeUpRuns(multiple=multiple)
    file = derived(runs)
    assert file.multiple == multiple
    assert len(file.regimes) == 4
    for rows in (1, 2, 3, 5):
        for length in (50 * multiple + 1, 50 * multiple, 101 * multiple - 1, 101 * multiple):
            assert_exact(runs, file, Point(rows, length))


def test_a_change_is_found_at_round_lengths_and_at_others() -> None:
    runs = MadeUpRuns(multiple=8, change=1500)
    file = derived(runs)
    for length in (1495, 1496, 1499, 1501, 1504, 1505):
        assert_exact(runs, file, Point(1, length))


def test_a_size_that_follows_no_rule_is_known_between_two_others() -> None:
    runs = MadeUpRuns(lambda point: 4096 * point.tokens + 512 * (point.tokens * 7919 % 101))
    file = derived(runs)
    formula = DerivedFormula(file)
    assert any(size.startswith("by tokens ") for size in file.sizes)
    seen = next(point for point in runs.asked if point.batch_size == 1)
    assert formula.is_exact(0, *seen)
    assert_exact(runs, file, seen)
    assert not formula.is_exact(0, 1, 333)


def test_points_at_which_a_job_fails_are_left_out() -> None:
    runs = MadeUpRuns(fails=lambda point: point.seq_len > 1000 or point.batch_size == 5)
    file = derived(runs)
    assert max(one.seq_len for one in file.seen if one.batch_size == 1) <= 1000
    for point in (Point(1, 700), Point(2, 301)):
        assert_exact(runs, file, point)


def test_a_row_in_which_every_run_fails_is_not_spoken_of() -> None:
    file = derived(MadeUpRuns(fails=lambda point: point.batch_size == 1))
    assert min(one.batch_size for one in file.seen) == 2
    assert DerivedFormula(file).regimes_at(1, 100) == ((), False)


def test_a_job_of_which_no_run_ends_well_has_no_formula() -> None:
    with pytest.raises(CannotFollowError, match="no run of the job ends well: it failed"):
        derived(MadeUpRuns(fails=lambda _: True))


def test_what_a_check_did_not_foresee_is_looked_at_again() -> None:
    """A band of tokens that no first look falls into: the check that does finds it."""
    first = MadeUpRuns()
    check = derived(first).checks[-1]
    at = Point(check.batch_size, check.seq_len)

    class Banded(MadeUpRuns):
        def run(self, point: Point, *, num_steps: int) -> Observation:
            self._options.change = 0 if at.tokens - 40 <= point.tokens <= at.tokens + 40 else None
            return super().run(point, num_steps=num_steps)

    runs = Banded()
    file = derived(runs)
    assert {check.allocated_difference_bytes for check in file.checks} == {0}
    assert at in [Point(one.batch_size, one.seq_len) for one in file.seen]
    assert runs.num_done > first.num_done


def test_a_job_that_changes_everywhere_ends_all_the_same() -> None:
    class Restless(MadeUpRuns):
        def run(self, point: Point, *, num_steps: int) -> Observation:
            self._options.change = 0 if point.tokens // 7 % 2 else None
            return super().run(point, num_steps=num_steps)

    runs = Restless()
    file = derived(runs)
    assert runs.num_done < 600
    assert file.seen


@pytest.mark.parametrize("longest", [64, 65, 100, 512])
def test_short_models_have_formulas_too(longest: int) -> None:
    runs = MadeUpRuns()
    file = derived(runs, longest)
    assert max(one.seq_len for one in file.seen if one.batch_size == 1) == longest
    if longest >= 512:
        assert_exact(runs, file, Point(1, 333))
