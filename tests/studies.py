"""Small studies for tests: records of some models, methods, lengths and batches, and of jobs that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.jobs.sweep import Sweep
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName
from profiler.records.store import RecordStore
from profiler.records.study import SweepNote, note_sweep
from tests.builders import OK, a_job, a_record, a_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiler.records.schema import Record

MODELS = ("smollm2-135m", "llama-3.1-8b")
METHODS = ("full", "lora", "qlora")
LENGTHS = (512, 2048)
BATCHES = (1, 4)
RAN_OUT = Outcome(status=OutcomeStatus.OOM, phase=PhaseName.BACKWARD, step=0, requested_bytes=2 << 20)


def study_records() -> Iterator[Record]:
    """24 jobs; the largest full one ran out of memory, and one more is inferred to."""
    for model in MODELS:
        for method in METHODS:
            for length in LENGTHS:
                for batch in BATCHES:
                    job = a_job(model=model, method=method, seq_len=length, batch_size=batch)
                    is_large = (model, method, length) == ("llama-3.1-8b", "full", 2048)
                    yield a_record(spec=job, outcome=_ran_out(batch) if is_large else OK, report=a_report())


def _ran_out(batch: int) -> Outcome:
    if batch == 1:
        return RAN_OUT
    message = "not run: the same job with batch 1 x 2048 tokens ran out of memory"
    return Outcome(status=OutcomeStatus.OOM, inferred_from="0123456789abcdef", message=message)


def a_study(directory: Path) -> RecordStore:
    """A study on the disk, with a note of its sweep."""
    store = RecordStore(directory)
    for record in study_records():
        store.put(record)
    sweep = Sweep(name=directory.name, description="Two models, three *methods*.")
    note_sweep(directory, SweepNote(command=f"peakvram sweep {directory.name}.yaml", sweep=sweep))
    return store
