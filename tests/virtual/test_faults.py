"""The saboteur: it finds what is wrong where something is, and a handful of its faults find nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from profiler.jobs.identity import job_key
from profiler.records.schema import Outcome, OutcomeStatus
from profiler.records.store import RecordStore
from profiler.virtual.state import library_path
from tests.builders import ROOT, a_job, a_phase, a_record, a_report, a_run, an_environment
from tests.faults.studies import Ledger, StudyOnTrial
from tests.faults.table import WRONGS, Tally

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.records.schema import Record

JOBS = [a_job(seq_len=length) for length in (256, 512, 1024)]
KILLED = Outcome(status=OutcomeStatus.KILLED, signal=9)
ERROR = Outcome(status=OutcomeStatus.ERROR, message="no space left on device")


@pytest.fixture
def study(tmp_path: Path) -> StudyOnTrial:
    ledger = Ledger()
    ledger.learn([a_record(spec=job) for job in JOBS])
    study = StudyOnTrial(place=tmp_path, jobs=JOBS, ledger=ledger)
    study.store(JOBS)
    return study


def only_file(study: StudyOnTrial, record: Record) -> Path:
    (path,) = [path for path in study.records.iterdir() if record.key in path.name]
    return path


@pytest.mark.skipif(not library_path().is_file(), reason="the virtual GPU's library is not built")
def test_a_handful_of_faults_loses_nothing(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or not any(map(shutil.which, ("gcc", "clang", "cc"))):
        pytest.skip("it takes unshare, and a C compiler to be quick")
    kinds = [word for kind in ("worker-kill", "command-kill", "pack-kill") for word in ("--kind", kind)]
    options = ["--count", "4", "--seed", "1", "--cold", "0", "--json", *kinds]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *options],
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 3:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    tally = Tally.of([done.stdout])
    assert tally.num_faults >= 4
    assert tally.num_wrong == 0
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_holds_what_it_held_is_sound(study: StudyOnTrial) -> None:
    assert study.check() == study.check_complete() == []


def test_a_record_that_is_gone_is_lost(study: StudyOnTrial) -> None:
    study.note_stored()
    record = study.stored()[0]
    only_file(study, record).unlink()
    assert study.check() == [f"lost: {record.key}"]
    assert study.check_complete() == [f"not resumed: {record.key}"]


def test_two_records_of_one_job_are_a_double(study: StudyOnTrial) -> None:
    again = a_report(environment=an_environment(torch="2.13.0"))
    RecordStore(study.place).put(a_record(spec=JOBS[0], report=again))
    assert study.check() == [f"double: {job_key(JOBS[0])}"]


def test_a_torn_record_is_told_unless_it_was_the_saboteur_that_tore_it(study: StudyOnTrial) -> None:
    path = only_file(study, study.stored()[0])
    path.write_bytes(path.read_bytes()[:100])
    assert study.check(spoilt=frozenset({path.name})) == []
    assert [found.partition(":")[0] for found in study.check()] == ["unreadable"]


def test_a_figure_that_is_another_one_than_elsewhere_is_told(study: StudyOnTrial) -> None:
    (*others, last) = a_run()
    changed = a_phase(last.name, last.step, end=last.allocated_end_bytes + 512)
    record = a_record(spec=JOBS[0], report=a_report((*others, changed)))
    RecordStore(study.place).put(record)
    assert study.check() == [f"figures differ: {record.key}"]


def test_a_job_is_killed_by_the_signals_that_were_sent_and_fails_by_no_fault(study: StudyOnTrial) -> None:
    RecordStore(study.place).put(a_record(spec=JOBS[0], outcome=KILLED))
    assert study.check(signals=frozenset({9})) == []
    assert len(study.check(signals=frozenset({15}))) == 1
    RecordStore(study.place).put(a_record(spec=JOBS[0], outcome=ERROR))
    assert study.check(signals=frozenset({9})) == [
        "a fault is recorded as the job's own: error no space left on device"
    ]


def test_what_was_broken_is_counted_by_its_column_and_several_saboteurs_are_summed() -> None:
    one = {"several": {"sweep": 2, "exec": 1, "while workers ran": 2, "commands": 3, "lost": 1}}
    other = {"several": {"sweep": 1, "commands": 1}, "links": {"explain": 4, "orphans": 2}}
    tally = Tally.of([json.dumps(one), json.dumps(other)])
    assert (tally.num_faults, tally.num_wrong) == (8, 3)
    assert tally.counts["several"]["sweep"] == 3
    lines = tally.to_text().splitlines()
    assert lines[0].split(" | ")[-len(WRONGS) :] == [*list(WRONGS)[:-1], "others |"]
    assert lines[2] == "| several | 4 | 2 | 3 | 1 | 0 | 0 | 1 | 0 | 0 | 0 | 0 | 0 |"
    assert lines[4] == "| all | 8 | 2 | 3 | 1 | 4 | 0 | 1 | 0 | 2 | 0 | 0 | 0 |"
