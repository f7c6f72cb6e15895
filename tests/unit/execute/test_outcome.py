from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from profiler.errors import ConfigError, EnvironmentUnfitError, MachineFaultError, PeakvramError
from profiler.execute import outcome
from profiler.execute.outcome import worker_result
from profiler.jobs.models import ModelSource
from profiler.process.faults import FAULT_EXIT_CODE
from profiler.process.protocol import REPORT, STDERR, Request, WorkerRefusal
from profiler.records.schema import OutcomeStatus, PhaseName
from tests.builders import a_device, a_job, a_phase, a_report

if TYPE_CHECKING:
    from pathlib import Path


def a_request() -> Request:
    source = ModelSource(
        kind="preset", id="x", location="x.json", revision=None, hub_id=None, reason="a preset"
    )
    return Request(spec=a_job(), source=source, device=a_device(), driver=None, scratch="x")


@pytest.mark.parametrize("exit_code", [FAULT_EXIT_CODE, -signal.SIGBUS])
def test_a_worker_that_the_machine_failed_has_no_outcome(exit_code: int, tmp_path: Path) -> None:
    with pytest.raises(MachineFaultError) as caught:
        worker_result(tmp_path, a_request(), exit_code)
    assert caught.value.exit_code == 3
    assert caught.value.hint


ABORTED = "Fatal Python error: Aborted\n\nThread 0x1 (most recent call first):\n"


@pytest.mark.parametrize(
    "words",
    [
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
        "terminate called after throwing an instance of 'std::system_error'\nCannot allocate memory\n",
    ],
)
def test_a_worker_that_aborts_as_the_machine_has_no_memory_has_no_outcome(words: str, tmp_path: Path) -> None:
    (tmp_path / STDERR).write_text(words + ABORTED)
    with pytest.raises(MachineFaultError, match="memory"):
        worker_result(tmp_path, a_request(), -signal.SIGABRT)


def test_a_worker_that_aborts_for_a_reason_of_its_own_has_one(tmp_path: Path) -> None:
    (tmp_path / STDERR).write_text(ABORTED)
    result = worker_result(tmp_path, a_request(), -signal.SIGABRT)
    assert result.outcome.status is OutcomeStatus.KILLED


@pytest.mark.parametrize(("before", "after"), [(3, 4), (0, 2)])
def test_a_worker_that_the_kernel_killed_for_memory_has_no_outcome(
    before: int, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "num_kills_for_memory", lambda: after)
    with pytest.raises(MachineFaultError, match="memory"):
        worker_result(tmp_path, a_request(), -signal.SIGKILL, num_kills=before)


@pytest.mark.parametrize(("before", "after"), [(3, 3), (None, 4), (3, None)])
def test_a_worker_that_somebody_killed_has_one(
    before: int | None, after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "num_kills_for_memory", lambda: after)
    result = worker_result(tmp_path, a_request(), -signal.SIGKILL, num_kills=before)
    assert result.outcome.status is OutcomeStatus.KILLED


@pytest.mark.parametrize(
    ("last", "following"),
    [
        (("load",), ("prepare", None, None)),
        (("optimizer",), ("forward", 0, 0)),
        (("forward", 0, 1), ("backward", 0, 1)),
        (("backward", 0, 0), ("forward", 0, 1)),
        (("backward", 1, 1), ("clip", 1, None)),
        (("zero_grad", 0), ("forward", 1, 0)),
        (("zero_grad", 2), None),
    ],
)
def test_a_worker_that_died_between_phases_was_in_the_next(
    last: tuple[str, int, int], following: tuple[str, int, int] | None, tmp_path: Path
) -> None:
    name, step, micro_step = (*last, None, None)[:3]
    phase = a_phase(PhaseName(name), step, micro_step=micro_step)
    (tmp_path / REPORT).write_text(a_report((phase,)).model_dump_json())
    request = a_request().model_copy(update={"spec": a_job(accumulation=2)})
    assert worker_result(tmp_path, request, 1).outcome.place == following


@pytest.mark.parametrize("kind", [ConfigError, EnvironmentUnfitError, MachineFaultError])
def test_a_refusal_comes_back_as_the_error_that_it_was(kind: type[PeakvramError]) -> None:
    error = WorkerRefusal.of(kind("what", hint="how")).to_error()
    assert type(error) is kind
    assert (error.message, error.hint) == ("what", "how")


CLOSING = {"steps": 2, "eval_batches": 1, "save": True}


@pytest.mark.parametrize(
    ("changes", "last", "following"),
    [
        ({}, (PhaseName.LOAD, None), (PhaseName.PREPARE, None)),
        ({}, (PhaseName.OPTIMIZER, None), (PhaseName.FORWARD, 0)),
        ({"steps": 2}, (PhaseName.ZERO_GRAD, 0), (PhaseName.FORWARD, 1)),
        ({"steps": 2}, (PhaseName.ZERO_GRAD, 1), (None, None)),
        (CLOSING, (PhaseName.ZERO_GRAD, 1), (PhaseName.EVALUATE, None)),
        (CLOSING, (PhaseName.EVALUATE, None), (PhaseName.SAVE, None)),
        ({**CLOSING, "eval_batches": 0}, (PhaseName.ZERO_GRAD, 1), (PhaseName.SAVE, None)),
        (CLOSING, (PhaseName.SAVE, None), (None, None)),
        ({"method": "inference"}, (PhaseName.LOAD, None), (PhaseName.PREFILL, None)),
    ],
)
def test_a_worker_that_dies_was_in_the_phase_after_the_last_it_told_of(
    changes: dict[str, Any],
    last: tuple[PhaseName, int | None],
    following: tuple[PhaseName | None, int | None],
    tmp_path: Path,
) -> None:
    request = a_request().model_copy(update={"spec": a_job(**changes)})
    report = a_report((a_phase(last[0], last[1]),))
    (tmp_path / REPORT).write_text(report.model_copy(update={"outcome": None}).model_dump_json())
    outcome_of = worker_result(tmp_path, request, -signal.SIGTERM).outcome
    assert (outcome_of.phase, outcome_of.step) == following
