"""The study that is swept: its jobs, what they take where nothing is hurt, and whether a study is sound."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiler.jobs.identity import job_key
from profiler.jobs.job import JobSpec
from profiler.records.schema import OutcomeStatus, Record
from profiler.records.store import RecordStore
from tests.faults.disks import DISK, HOME
from tests.virtual.jobs import TINY_LLAMA, without_times

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SMALL = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 512}
MODEL = HOME / "model"
NUM_JOBS = 8


def write_model() -> None:
    """A Llama of two layers, 64 wide."""
    MODEL.mkdir(exist_ok=True)
    (MODEL / "config.json").write_text(json.dumps({**TINY_LLAMA, **_SMALL}))


def all_jobs(steps: int) -> list[JobSpec]:
    """Jobs of nearly one size, none of which needs another's end to be started."""
    jobs = []
    for rank in range(1, NUM_JOBS + 1):
        method = {"kind": "lora", "rank": rank} if rank % 3 else "full"
        values = {"model": str(MODEL), "gpu": "rtx-4090", "batch_size": 1, "steps": steps}
        jobs.append(JobSpec.model_validate(values | {"seq_len": 32 + rank, "method": method}))
    return jobs


def write_sweep(path: Path, jobs: Sequence[JobSpec]) -> None:
    """A sweep of exactly these jobs."""
    entries = [job.model_dump(mode="json", exclude_none=True) for job in jobs]
    path.write_text(json.dumps({"name": "faults", "base": {"model": str(MODEL)}, "include": entries}))


@dataclass
class Ledger:
    """What jobs take where nothing is hurt, by their keys; and results of other commands, by a name."""

    records: dict[str, Record] = field(default_factory=dict)
    others: dict[str, object] = field(default_factory=dict)

    def learn(self, records: Sequence[Record]) -> None:
        """Take these for what is right."""
        for record in records:
            assert record.outcome.status is OutcomeStatus.OK, record.outcome.message
            self.records[record.key] = record

    def differs(self, record: Record) -> bool:
        """Whether a figure of a job that is done is not what it is elsewhere."""
        return without_times(record) != without_times(self.records[record.key])


@dataclass
class StudyOnTrial:
    """One study, before and after faults.

    Attributes:
        place: its folder.
        jobs: what is swept.
    """

    place: Path
    jobs: list[JobSpec]
    ledger: Ledger
    _known: dict[str, str] = field(default_factory=dict)  # by key, the status of each stored job

    @property
    def file(self) -> Path:
        return HOME / f"{self.place.name}.json"

    @property
    def records(self) -> Path:
        return self.place / "records"

    def arguments(self, *options: str) -> list[str]:
        """Of the command that sweeps it."""
        return ["sweep", str(self.file), "--out", str(self.place), "--workers", "2", *options]

    def stored(self) -> list[Record]:
        """Its records."""
        return [stored.record for stored in RecordStore(self.place).scan().records]

    def store(self, jobs: Sequence[JobSpec]) -> None:
        """Put the records of jobs there, as a sweep would."""
        for job in jobs:
            RecordStore(self.place).put(self.ledger.records[job_key(job)])

    def note_stored(self) -> None:
        """From now on what is stored is lost if it is not found any more."""
        names = [path.name for path in self.records.glob("[!.]*.json")]
        for key in map(job_key, self.jobs):
            if any(key in name for name in names):
                self._known.setdefault(key, "seen")

    def num_stored(self, status: str) -> int:
        """How many jobs had a record of that status at the last check."""
        return sum(each == status for each in self._known.values())

    def check(
        self, *, signals: frozenset[int] = frozenset(), spoilt: frozenset[str] = frozenset()
    ) -> list[str]:
        """What is wrong with it: nothing, whatever has happened.

        Args:
            signals: those that its workers were sent.
            spoilt: names of files that the saboteur has written over.
        """
        scan = RecordStore(self.place).scan()
        wrong = [
            f"unreadable: {problem.path.name}: {problem.reason}"
            for problem in scan.problems
            if problem.path.name not in spoilt
        ]
        records = [stored.record for stored in scan.records]
        keys = {job_key(job) for job in self.jobs}
        counted = Counter(record.key for record in records)
        wrong += [f"double: {key}" for key, count in counted.items() if count > 1]
        wrong += [f"no job of the sweep: {key}" for key in counted if key not in keys]
        wrong += [f"lost: {key}" for key in self._known if key not in counted and not _names(spoilt, key)]
        for record in records:
            wrong += _what_is_wrong(record, self.ledger, signals)
        self._known = {record.key: record.outcome.status.value for record in records}
        return wrong

    def check_complete(self) -> list[str]:
        """What is still missing after a run that nothing has hurt."""
        done = {key for key, status in self._known.items() if status == "ok"}
        missing = [key for key in map(job_key, self.jobs) if key not in done]
        hidden = [str(path) for path in self.place.rglob(".*")]
        return [f"not resumed: {key}" for key in missing] + [f"left in the study: {path}" for path in hidden]


def new_study(name: str, jobs: Sequence[JobSpec], ledger: Ledger) -> StudyOnTrial:
    """One without a record yet."""
    study = StudyOnTrial(place=DISK / name, jobs=list(jobs), ledger=ledger)
    write_sweep(study.file, jobs)
    return study


def _names(names: frozenset[str], key: str) -> bool:
    return any(key in name for name in names)


def _what_is_wrong(record: Record, ledger: Ledger, signals: frozenset[int]) -> list[str]:
    outcome = record.outcome
    match outcome.status:
        case OutcomeStatus.OK:
            return [f"figures differ: {record.key}"] if ledger.differs(record) else []
        case OutcomeStatus.KILLED if outcome.signal in signals:
            return []
    return [f"a fault is recorded as the job's own: {outcome.status} {outcome.message}"]
