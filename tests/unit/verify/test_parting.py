from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from profiler.records.schema import Outcome, OutcomeStatus, PhaseName
from profiler.units import GIB
from profiler.verify.parting import JobComparison, Likeness, compare_runs
from tests.builders import OK, a_job, a_phase, a_real_device, a_record, a_report, a_run, an_environment
from tests.unit.verify.histories import a_small_history

if TYPE_CHECKING:
    from profiler.records.history import History
    from profiler.records.schema import Record

HISTORY = a_small_history(("free", 512, 0))
OTHER = a_small_history(("free", 2048, 2))


def a_real_record(outcome: Outcome = OK, **report: Any) -> Record:
    spec = a_job(gpu="real:0")
    return a_record(spec=spec, report=a_report(**{"device": a_real_device(), **report}), outcome=outcome)


def compared(
    real: Record,
    virtual: Record | None = None,
    *,
    sides: tuple[History | None, History | None] = (HISTORY, HISTORY),
) -> JobComparison:
    return compare_runs(real, virtual or a_record(), *sides)


def test_the_same_figures_and_events_are_identical() -> None:
    seen = compared(a_real_record())
    assert (seen.verdict, seen.reason, seen.figures, seen.notes) == (Likeness.IDENTICAL, "", (), ())
    assert seen.num_events_real == seen.num_events_virtual == 6


def test_device_figures_and_times_do_not_count() -> None:
    phases = tuple(
        phase.model_copy(update={"device_used_peak_bytes": None, "elapsed_s": 1.0}) for phase in a_run()
    )
    assert compared(a_real_record(phases=phases)).verdict is Likeness.IDENTICAL


def test_other_events_under_the_same_figures_are_told_apart() -> None:
    seen = compared(a_real_record(), sides=(HISTORY, OTHER))
    assert seen.verdict is Likeness.SAME_FIGURES
    assert seen.first_difference is not None


def test_a_figure_that_differs_is_named_with_both_values() -> None:
    phases = (*a_run()[:-1], a_phase(PhaseName.ZERO_GRAD, 1, end=6 * GIB + 512, peak=7 * GIB))
    seen = compared(a_real_record(phases=phases))
    assert (seen.verdict, seen.reason) == (Likeness.DIFFERS, "allocated of 1 phase")
    (found,) = seen.figures
    assert (found.phase, found.step, found.figure) == (PhaseName.ZERO_GRAD, 1, "allocated_end_bytes")
    assert (found.real, found.virtual) == (6 * GIB + 512, 6 * GIB)


def test_a_history_that_was_full_leaves_the_events_compared_in_part() -> None:
    full = a_small_history(is_truncated=True)
    seen = compared(a_real_record(), sides=(full, full))
    assert seen.verdict is Likeness.PARTLY
    assert (
        seen.notes[0] == "the history of the real card was full in backward, step 0: later events are missing"
    )


def test_without_a_history_only_figures_are_compared_and_a_note_says_so() -> None:
    seen = compared(a_real_record(), sides=(None, HISTORY))
    assert seen.verdict is Likeness.PARTLY
    assert seen.notes == ("there is no history of the real card: events were not compared",)


def test_out_of_memory_on_one_side_alone_differs() -> None:
    oom = Outcome(status=OutcomeStatus.OOM, phase=PhaseName.BACKWARD, step=0)
    seen = compared(a_real_record(oom))
    assert seen.verdict is Likeness.DIFFERS
    assert seen.reason == "oom in backward, step 0 on the real card, ok on its twin"
    assert compared(a_real_record(oom), a_record(outcome=oom)).verdict is Likeness.IDENTICAL


@pytest.mark.parametrize("status", [OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT, OutcomeStatus.KILLED])
def test_a_job_that_failed_on_a_side_is_not_compared(status: OutcomeStatus) -> None:
    seen = compared(a_real_record(Outcome(status=status, message="first\nlast word")))
    assert seen.verdict is Likeness.NOT_COMPARED
    assert seen.reason == f"the job ended with {status} on the real card: last word"


def test_unlike_is_not_compared_with_unlike() -> None:
    environment = an_environment(alloc_conf="expandable_segments:True")
    seen = compared(a_real_record(environment=environment))
    assert seen.verdict is Likeness.NOT_COMPARED
    assert seen.reason == "alloc_conf is expandable_segments:True on the real card, none on its twin"


def test_expandable_segments_that_the_driver_did_not_give_are_noted() -> None:
    environment = an_environment(alloc_conf="expandable_segments:True")
    virtual = a_record(report=a_report(environment=environment))
    seen = compared(a_real_record(environment=environment), virtual)
    assert seen.notes == (
        "expandable segments: the allocator maps memory in place of allocating segments",
        "the real card's driver gave no expandable segments, so torch did without",
    )
