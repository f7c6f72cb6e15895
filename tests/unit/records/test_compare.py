from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.records.compare import Comparison, Side, compare_sides, read_side
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName, Record
from profiler.records.store import RecordStore
from profiler.units import GIB
from tests.builders import OK, a_device, a_job, a_phase, a_record, a_report, an_environment
from tests.studies import RAN_OUT

if TYPE_CHECKING:
    from pathlib import Path


def a_run_of(peak: int, *, seq_len: int = 2048, gpu: str = "rtx-4090", torch: str = "2.14.1") -> Record:
    report = a_report(
        (a_phase(PhaseName.FORWARD, 0, end=peak),),
        environment=an_environment(torch=torch),
        device=a_device(id=gpu),
    )
    return a_record(spec=a_job(seq_len=seq_len, gpu=gpu), report=report)


def a_failure(outcome: Outcome = RAN_OUT, *, seq_len: int = 2048) -> Record:
    return a_record(spec=a_job(seq_len=seq_len), outcome=outcome)


def sides(before: list[Record], after: list[Record]) -> tuple[Side, Side]:
    return Side(name="before", records=tuple(before)), Side(name="after", records=tuple(after))


def compared(before: list[Record], after: list[Record]) -> Comparison:
    return compare_sides(*sides(before, after))


def test_the_same_figures_are_the_same() -> None:
    comparison = compared([a_run_of(GIB)], [a_run_of(GIB, torch="2.15.0")])
    assert comparison.changed == ()
    assert comparison.over(Fraction("0.0"), "allocated") == ()
    assert comparison.environment() == {"torch": ("2.14.1", "2.15.0")}


def test_one_byte_more_is_a_change() -> None:
    comparison = compared([a_run_of(GIB)], [a_run_of(GIB + 1)])
    (pair,) = comparison.changed
    assert pair.sizes("allocated") == (GIB, GIB + 1)
    assert comparison.over(Fraction("0.0"), "allocated") == (pair,)
    assert comparison.over(Fraction("0.01"), "allocated") == ()


def test_growing_and_shrinking_are_both_over_the_limit() -> None:
    before = [a_run_of(100 * GIB, seq_len=length) for length in (512, 1024, 2048)]
    after = [
        a_run_of(size * GIB, seq_len=length)
        for length, size in zip((512, 1024, 2048), (103, 97, 101), strict=True)
    ]
    comparison = compared(before, after)
    assert [round(pair.change("allocated") or 0, 6) for pair in comparison.changed] == [0.03, -0.03, 0.01]
    assert len(comparison.over(Fraction("0.02"), "allocated")) == 2


def test_reserved_memory_has_a_limit_of_its_own() -> None:
    comparison = compared([a_run_of(4 * GIB)], [a_run_of(4 * GIB + 1)])  # one more block of 2 MiB
    assert comparison.over(Fraction("0.0001"), "allocated") == ()
    assert len(comparison.over(Fraction("0.0001"), "reserved")) == 1


def test_another_outcome_is_over_any_limit_and_stands_first() -> None:
    comparison = compared(
        [a_run_of(GIB, seq_len=512), a_failure(seq_len=1024), a_run_of(GIB)],
        [a_run_of(9 * GIB, seq_len=512), a_run_of(GIB, seq_len=1024), a_failure()],
    )
    lengths = [pair.after.spec.seq_len for pair in comparison.changed]
    assert lengths == [2048, 1024, 512]  # no longer runs, runs now, grew
    assert {pair.after.spec.seq_len for pair in comparison.over(Fraction("100.0"), "allocated")} == {
        2048,
        1024,
    }
    assert comparison.changed[0].change("allocated") is None


def test_how_it_is_known_that_a_job_runs_out_of_memory_is_no_change() -> None:
    inferred = Outcome(status=OutcomeStatus.OOM, inferred_from="0123456789abcdef")
    assert compared([a_failure(RAN_OUT)], [a_failure(inferred)]).changed == ()


def test_jobs_of_one_side_are_missing_or_new() -> None:
    before, after = [a_run_of(GIB), a_run_of(GIB, seq_len=1)], [a_run_of(GIB), a_run_of(GIB, seq_len=2)]
    comparison = compared(before, after)
    assert comparison.missing == (before[1],)
    assert comparison.new == (after[1],)


def test_the_order_of_the_sides_turns_the_signs() -> None:
    before, after = [a_run_of(2 * GIB)], [a_run_of(3 * GIB)]
    assert compared(before, after).pairs[0].change("allocated") == pytest.approx(1 / 2)
    assert compared(after, before).pairs[0].change("allocated") == pytest.approx(-1 / 3)


def test_other_cards_are_other_jobs_unless_that_is_asked_for() -> None:
    before, after = sides([a_run_of(GIB)], [a_run_of(GIB, gpu="rtx-5090")])
    with pytest.raises(ConfigError, match="no job is in both") as error:
        compare_sides(before, after)
    assert "--any-card" in error.value.hint
    comparison = compare_sides(before, after, is_card_ignored=True)
    assert len(comparison.pairs) == 1
    assert comparison.environment() == {"gpu": ("rtx-4090", "rtx-5090")}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """One job under two versions of torch."""
    store = RecordStore(tmp_path / "study")
    for torch, size in (("2.8.0+cu128", GIB), ("2.14.1", 2 * GIB)):
        store.put(a_run_of(size, torch=torch))
    return store.directory


def test_environments_of_one_study_are_compared(study: Path) -> None:
    before, after = read_side(f"{study}@torch=2.8"), read_side(f"{study}@torch=2.14.1")
    comparison = compare_sides(before, after)
    assert comparison.environment() == {"torch": ("2.8.0+cu128", "2.14.1")}
    assert comparison.pairs[0].change("allocated") == 1.0


def test_a_version_is_matched_by_whole_numbers(study: Path) -> None:
    with pytest.raises(ConfigError, match=r"no record of .* is of 'torch=2.1'"):
        read_side(f"{study}@torch=2.1")


def test_several_environments_are_named_where_one_is_needed(study: Path) -> None:
    side = read_side(str(study))
    with pytest.raises(ConfigError, match="several records of one job") as error:
        compare_sides(side, side)
    assert "torch=2.8.0+cu128" in error.value.hint
    fingerprint = error.value.hint.partition("DIR@WHICH: ")[2].split()[0]
    assert len(read_side(f"{study}@{fingerprint}").records) == 1


def test_a_directory_with_the_sign_in_its_name_is_a_directory(tmp_path: Path) -> None:
    RecordStore(tmp_path / "a@b").put(a_record(outcome=OK))
    assert len(read_side(str(tmp_path / "a@b")).records) == 1


def test_an_unknown_part_of_an_environment_is_refused(study: Path) -> None:
    with pytest.raises(ConfigError, match="no environment has a 'tensorflow'") as error:
        read_side(f"{study}@tensorflow=2")
    assert "transformers" in error.value.hint


def test_a_place_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no record"):
        read_side(str(tmp_path / "nothing"))
