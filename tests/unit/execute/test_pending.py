from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.errors import EnvironmentUnfitError
from profiler.execute import pending as module
from profiler.execute.pending import Rerun, pending_jobs
from profiler.execute.prepare import describe_device
from profiler.hardware.discovery import choose_device
from profiler.process.environment import RECORDED_VARIABLES, read_environment, worker_variables
from profiler.records.build import build_record
from profiler.records.schema import Outcome, OutcomeStatus, Record, WorkerReport
from profiler.records.store import RecordStore
from tests.builders import AT, OK, a_job

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.jobs.job import JobSpec

OUTCOMES = {
    512: OK,
    1024: Outcome(status=OutcomeStatus.OOM),
    1536: Outcome(status=OutcomeStatus.ERROR),
    2048: Outcome(status=OutcomeStatus.TIMEOUT),
    2560: Outcome(status=OutcomeStatus.KILLED, signal=9),
}
STORED = [a_job(seq_len=length) for length in OUTCOMES]
MISSING = a_job(seq_len=4096)


def a_record_from_here(job: JobSpec, outcome: Outcome = OK) -> Record:
    """What a worker of this process would have recorded."""
    variables = worker_variables({}, alloc_conf=job.alloc_conf, is_virtual=True)
    report = WorkerReport(
        device=describe_device(choose_device(job.gpu, gpu_memory_bytes=job.gpu_memory_bytes)),
        environment=read_environment(alloc_conf=job.alloc_conf, driver=None, variables=variables),
    )
    return build_record(spec=job, report=report, outcome=outcome, created_at=AT)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have set some of these."""
    for name in RECORDED_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path)
    for job, outcome in zip(STORED, OUTCOMES.values(), strict=True):
        store.put(a_record_from_here(job, outcome))
    return store


@pytest.mark.parametrize(
    ("rerun", "again"),
    [
        (Rerun.MISSING, []),
        (Rerun.FAILED, [1536, 2048, 2560]),
        (Rerun.OOM, [1024]),
        (Rerun.ALL, [512, 1024, 1536, 2048, 2560]),
    ],
)
def test_rerun_chooses_among_what_is_stored(rerun: Rerun, again: list[int], store: RecordStore) -> None:
    pending = pending_jobs([*STORED, MISSING], store, rerun=rerun)
    assert [job.seq_len for job in pending.todo] == [*again, MISSING.seq_len]
    assert [record.spec.seq_len for record in pending.stored] == [n for n in OUTCOMES if n not in again]
    assert [record.spec.seq_len for record in pending.seen] == list(OUTCOMES)


def test_a_changed_job_is_another(store: RecordStore) -> None:
    changed = STORED[0].model_copy(update={"steps": 7})
    assert pending_jobs([changed], store).todo == (changed,)


@pytest.mark.parametrize(
    ("name", "value"), [("CUBLAS_WORKSPACE_CONFIG", ":16:8"), ("CUDA_MODULE_LOADING", "EAGER")]
)
def test_other_surroundings_are_another_attempt(
    name: str, value: str, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pending_jobs(STORED, store).todo == ()
    monkeypatch.setenv(name, value)
    pending = pending_jobs(STORED, store)
    assert pending.todo == tuple(STORED)
    assert pending.seen == ()


def test_allocator_settings_are_told_apart(store: RecordStore) -> None:
    segments = STORED[0].model_copy(update={"alloc_conf": "expandable_segments:True"})
    assert pending_jobs([segments], store).todo == (segments,)
    store.put(a_record_from_here(segments))
    assert pending_jobs([segments, *STORED], store).todo == ()


def test_a_card_of_another_capacity_is_another(store: RecordStore) -> None:
    smaller = STORED[0].model_copy(update={"gpu_memory_bytes": 8 << 30})
    assert pending_jobs([smaller], store).todo == (smaller,)
    store.put(a_record_from_here(smaller))
    assert pending_jobs([smaller], store).todo == ()


def test_auto_is_made_what_it_stands_for(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    virtual = choose_device("rtx-4090")
    monkeypatch.setattr("profiler.execute.pending.choose_device", lambda *_, **__: virtual)
    auto = [job.model_copy(update={"gpu": "auto"}) for job in (*STORED, MISSING)]
    pending = pending_jobs(auto, store)
    assert pending.todo == (MISSING,)
    assert len(pending.stored) == len(STORED)


def test_a_job_whose_card_cannot_be_found_is_to_be_run(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EnvironmentUnfitError("no card", hint="")

    monkeypatch.setattr(module, "choose_device", refuse)
    job = a_job(gpu="real")
    assert pending_jobs([job], store).todo == (job,)
