"""Sweeps on virtual cards: nothing passes from job to job, and nothing is lost whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from profiler.execute.local import run_job
from profiler.execute.pending import pending_jobs
from profiler.execute.schedule import SweepOptions, SweepSummary, run_sweep
from profiler.hardware.catalogue import find_gpu
from profiler.jobs.identity import job_key
from profiler.records.schema import OutcomeStatus, Record
from profiler.records.store import RecordStore
from profiler.units import GIB, MIB
from profiler.virtual.state import device_uuid, library_path, open_state
from tests.virtual.harness import a_machine
from tests.virtual.jobs import a_job, a_model, without_times
from tests.virtual.sweeps import (
    PATIENCE_S,
    Told,
    a_sweep_file,
    finish_sweep,
    forkserver_of,
    processes_with,
    rooms_of,
    start_command,
    start_sweep,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from profiler.jobs.job import JobSpec

pytestmark = pytest.mark.skipif(not library_path().is_file(), reason="the virtual GPU's library is not built")

A100 = find_gpu("a100-80gb")
# In a worker alone: as soon as it has made a temporary directory, it is killed.
LEAVES_A_DIRECTORY = """
import os, signal, tempfile
make, server = tempfile.mkdtemp, os.getpid()
def mkdtemp(*args, **kwargs):
    made = make(*args, **kwargs)
    if os.getpid() != server:
        os.kill(os.getpid(), signal.SIGKILL)
    return made
tempfile.mkdtemp = mkdtemp
"""
TO_BE_KILLED, TO_CRASH = 255, 254  # lengths that no other job here has


@dataclass(frozen=True)
class Swept:
    """A sweep that has been run, and its records by the names of its jobs."""

    jobs: dict[str, JobSpec]
    store: RecordStore
    summary: SweepSummary
    told: Told

    def __getitem__(self, name: str) -> Record:
        key = job_key(self.jobs[name])
        (record,) = [item.record for item in self.store.scan().records if item.record.key == key]
        return record


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return a_model(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def jobs(model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobSpec]:
    """Jobs of one size, so that they run in this order, each after one that might leave something behind."""
    odd = a_model(tmp_path_factory.mktemp("models") / "odd", num_key_value_heads=3)
    return {
        "full": a_job(model=model, optimizer="adamw_torch_fused"),
        "out of memory": a_job(model="smollm2-135m", gpu_memory_bytes=1300 * MIB),
        "qlora": a_job(model=model, method="qlora", gradient_checkpointing=False),
        "crash": a_job(model=model, seq_len=TO_CRASH, steps=1000),
        "segments": a_job(model="smollm2-135m", method="lora", alloc_conf="expandable_segments:True"),
        "other card": a_job(model=model, method="lora", gpu="h100-80gb", precision="fp16-amp"),
        "error": a_job(model=odd),
        "8-bit": a_job(model=model, optimizer="adamw_bnb_8bit"),
        "killed": a_job(model=model, seq_len=TO_BE_KILLED, steps=1000),
        "lora": a_job(model="smollm2-135m", method="lora"),
    }


@pytest.fixture(scope="module")
def swept(jobs: dict[str, JobSpec], tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """One worker at a time; one job is killed and one made to crash."""
    store = RecordStore(tmp_path_factory.mktemp("swept"))
    told = Told(kill={TO_BE_KILLED: signal.SIGKILL, TO_CRASH: signal.SIGSEGV})
    summary = run_sweep(list(jobs.values()), store, SweepOptions(num_workers=1), told)
    return Swept(jobs=jobs, store=store, summary=summary, told=told)


def a_lora_job(model: str, rank: int, **changes: Any) -> JobSpec:
    """Jobs of different ranks do not wait for each other, as those of different sizes do."""
    return a_job(model=model, method={"kind": "lora", "rank": rank}, **changes)


@contextmanager
def temporary_files(directory: Path) -> Iterator[None]:
    """Whatever this process starts keeps its files there."""
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(directory))
        patched.setattr(tempfile, "tempdir", None)
        yield


# ---- no state passes from job to job ----


def test_jobs_that_come_to_grief_are_recorded_and_the_others_go_on(swept: Swept) -> None:
    assert swept.summary == SweepSummary(
        num_done=6, num_oom=1, num_inferred=0, num_failed=3, num_refused=0, is_interrupted=False
    )
    killed, crashed = swept["killed"].outcome, swept["crash"].outcome
    assert (killed.status, killed.signal) == (OutcomeStatus.KILLED, signal.SIGKILL)
    assert (crashed.status, crashed.signal) == (OutcomeStatus.KILLED, signal.SIGSEGV)
    assert swept["error"].outcome.status is OutcomeStatus.ERROR
    assert swept["out of memory"].outcome.status is OutcomeStatus.OOM
    for name in ("full", "qlora", "segments", "other card", "8-bit", "lora"):
        assert swept[name].outcome.status is OutcomeStatus.OK, swept[name].outcome.message


def test_jobs_of_a_sweep_and_jobs_alone_in_fresh_processes_take_the_same_bytes(swept: Swept) -> None:
    names = ["full", "out of memory", "qlora", "segments", "other card", "8-bit", "lora"]
    with ThreadPoolExecutor(max_workers=2) as executor:
        alone = dict(zip(names, executor.map(lambda name: run_job(swept.jobs[name]), names), strict=True))
    for name in names:
        assert without_times(alone[name]) == without_times(swept[name]), name
        in_both = [
            record.model_dump(exclude={"phases", "created_at"}) for record in (alone[name], swept[name])
        ]
        assert in_both[0] == in_both[1], name


def test_in_another_order_side_by_side_and_after_the_forkserver_was_killed_jobs_take_the_same_bytes(
    swept: Swept, tmp_path: Path
) -> None:
    wanted = [job for name, job in reversed(swept.jobs.items()) if name not in {"killed", "crash"}]

    class KillsTheForkServer(Told):
        def finished(self, record: Record) -> None:
            super().finished(record)
            if len(self.finished_records) == 2:
                forkserver = forkserver_of(os.getpid())
                assert forkserver is not None
                os.kill(forkserver, signal.SIGKILL)

    told = KillsTheForkServer()
    with temporary_files(tmp_path / "temporary"):
        summary = run_sweep(wanted, RecordStore(tmp_path / "study"), SweepOptions(num_workers=2), told)
    assert (summary.num_done, summary.num_oom, summary.num_failed) == (6, 1, 1)
    assert len(told.of("started")) > len(wanted), "nothing ran when the forkserver was killed"
    names = {job_key(job): name for name, job in swept.jobs.items()}
    assert sorted(names[key] for key, _ in told.of("finished")) == sorted(
        set(names.values()) - {"killed", "crash"}
    )
    for stored in RecordStore(tmp_path / "study").scan().records:
        name = names[stored.record.key]
        assert without_times(stored.record) == without_times(swept[name]), name
    assert list((tmp_path / "temporary").glob("peakvram-*")) == []
    assert not (tmp_path / "study" / ".locks").exists()


def test_what_libraries_leave_in_a_temporary_directory_goes_with_a_worker_that_is_killed(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hook" / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(LEAVES_A_DIRECTORY)
    monkeypatch.setenv("PYTHONPATH", str(hook.parent))
    with temporary_files(tmp_path / "temporary"):
        summary = run_sweep([a_job(model=model)], RecordStore(tmp_path / "study"), SweepOptions(), Told())
    assert summary.num_failed == 1
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_is_stored_is_not_pending_whatever_came_of_it(swept: Swept) -> None:
    pending = pending_jobs(list(swept.jobs.values()), swept.store)
    assert pending.todo == ()
    assert len(pending.stored) == len(swept.jobs)


# ---- the forkserver dies before it is of use ----


def test_a_forkserver_that_is_killed_while_it_starts_is_started_again(model: str, tmp_path: Path) -> None:
    def kill() -> None:
        os.kill(wait_until(lambda: forkserver_of(os.getpid()), "a forkserver"), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = run_sweep([a_job(model=model)], RecordStore(tmp_path), SweepOptions(), Told())
    killer.join()
    assert summary.num_done == 1


def test_workers_that_cannot_start_end_the_sweep_with_their_own_words(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken" / "peft").mkdir(parents=True)
    (tmp_path / "broken" / "peft" / "__init__.py").write_text("raise RuntimeError('this peft is broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    jobs = [a_job(model=model, seq_len=length) for length in (128, 256, 512)]
    ran = finish_sweep(start_sweep(jobs, tmp_path / "study"))
    assert ran.error == "the workers cannot start: RuntimeError: this peft is broken"
    assert ran.told.events == []


# ---- time limits, refusals ----


def test_jobs_over_the_time_limit_are_ended_and_recorded_and_not_run_again(
    model: str, tmp_path: Path
) -> None:
    jobs = [a_job(model=model, method=method, steps=1000) for method in ("full", "lora")]
    refused = a_job(model="gemma-2-2b", attention="flash_attention_2")
    store, told = RecordStore(tmp_path), Told()
    summary = run_sweep([*jobs, refused], store, SweepOptions(timeout_s=0.001), told)
    assert (summary.num_failed, summary.num_refused) == (2, 1)
    records = [item.record for item in store.scan().records]
    assert {record.outcome.status for record in records} == {OutcomeStatus.TIMEOUT}
    assert records[0].outcome.message == "killed after the time limit of 0.001 s"
    ((_, why),) = told.of("refused")
    assert "flash-attn" in why
    assert pending_jobs([*jobs, refused], store).todo == (refused,)


# ---- inference ----


def test_larger_jobs_than_one_out_of_memory_are_inferred_and_would_agree(tmp_path: Path) -> None:
    jobs = [
        a_job(
            method="lora", batch_size=batch, seq_len=length, model="smollm2-135m", gpu_memory_bytes=1350 * MIB
        )
        for batch in (1, 8)
        for length in (128, 1024)
    ]
    pruned, whole = RecordStore(tmp_path / "pruned"), RecordStore(tmp_path / "whole")
    told = Told()
    summary = run_sweep(jobs, pruned, SweepOptions(), told)
    run_sweep(jobs, whole, SweepOptions(prune=False), Told())
    assert summary.num_inferred >= 1
    assert summary.num_oom > summary.num_inferred
    assert summary.num_done >= 1
    by_key = {item.record.key: item.record for item in whole.scan().records}
    for stored in pruned.scan().records:
        record, run = stored.record, by_key[stored.record.key]
        assert record.outcome.status is run.outcome.status
        if record.outcome.inferred_from is None:
            assert without_times(record) == without_times(run)
            continue
        assert record.phases == ()
        assert record.outcome.message is not None
        assert record.outcome.message.startswith("not run: the same job with batch ")
        source = by_key[record.outcome.inferred_from]
        assert source.outcome.status is OutcomeStatus.OOM
        assert source.spec.batch_size <= record.spec.batch_size
        assert source.spec.seq_len <= record.spec.seq_len


# ---- the command, ended from outside ----


@dataclass(frozen=True)
class Study:
    """A sweep file of small jobs, and where its command keeps things."""

    file: Path
    out: Path
    temporary: Path
    jobs: tuple[JobSpec, ...]

    def start(self, *options: str) -> subprocess.Popen[str]:
        return start_command(self.file, self.out, self.temporary, *options)

    @property
    def num_records(self) -> int:
        return len(list(self.out.glob("records/*.json")))

    def assert_sound(self) -> None:
        """Every file is a whole record of one of the jobs."""
        scan = RecordStore(self.out).scan()
        assert scan.problems == ()
        assert {item.record.key for item in scan.records} <= {job_key(job) for job in self.jobs}
        assert {item.record.outcome.status for item in scan.records} <= {OutcomeStatus.OK}


@pytest.fixture
def new_study(model: str, tmp_path: Path) -> Callable[[str], Study]:
    def make(name: str) -> Study:
        place = tmp_path / name
        jobs = tuple(a_lora_job(model, rank, steps=8) for rank in range(1, 9))
        temporary = place / "temporary"
        temporary.mkdir(parents=True)
        file = a_sweep_file(place / "sweep.yaml", jobs)
        return Study(file=file, out=place / "out", temporary=temporary, jobs=jobs)

    return make


def wait_until_nothing_is_left(study: Study, rooms: Sequence[Path]) -> None:
    wait_until(lambda: not processes_with(study.temporary), "its processes end", patience_s=10)
    wait_until(lambda: not any(room.exists() for room in rooms), "its directories go", patience_s=10)


def end_command(study: Study, command: subprocess.Popen[str], *signals: signal.Signals) -> tuple[int, str]:
    """Sends signals once the first record is stored; everything must go. The exit code, and stderr."""
    before = study.num_records
    wait_until(lambda: study.num_records > before, "a record")
    forkserver = forkserver_of(command.pid)
    assert forkserver is not None
    rooms = rooms_of(forkserver)
    for number in signals:
        command.send_signal(number)
        time.sleep(0.01)
    _, stderr = command.communicate(timeout=PATIENCE_S)
    wait_until_nothing_is_left(study, rooms)
    study.assert_sound()
    return command.returncode, stderr


def assert_finishes(study: Study) -> None:
    """The next run runs exactly the jobs that were missing."""
    kept = {path: path.read_bytes() for path in study.out.glob("records/*.json")}
    command = study.start()
    stdout, stderr = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, stderr
    assert f"{len(study.jobs) - len(kept)} ok" in stdout
    assert f"{len(kept)} were stored before" in stdout
    assert study.num_records == len(study.jobs)
    assert {path: path.read_bytes() for path in kept} == kept
    study.assert_sound()
    assert list(study.temporary.glob("peakvram-*")) == []


def test_a_killed_sweep_leaves_nothing_but_whole_records_and_the_next_run_does_the_rest(
    new_study: Callable[[str], Study],
) -> None:
    study = new_study("study")
    command = study.start()
    forkserver = wait_until(lambda: forkserver_of(command.pid), "a forkserver")
    rooms = rooms_of(forkserver)
    time.sleep(0.5)  # it imports
    command.kill()
    command.communicate(timeout=PATIENCE_S)
    wait_until_nothing_is_left(study, rooms)
    assert study.num_records == 0
    code, _ = end_command(study, study.start(), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert_finishes(study)


def test_an_interrupted_sweep_keeps_its_records_and_leaves_nothing(
    new_study: Callable[[str], Study],
) -> None:
    interrupts = {
        "once": ((signal.SIGINT,), 130),
        "twice": ((signal.SIGINT, signal.SIGINT), 130),
        "terminated": ((signal.SIGTERM,), 143),
    }
    studies = {name: new_study(name) for name in interrupts}
    commands = {name: study.start() for name, study in studies.items()}
    for name, (signals, exit_code) in interrupts.items():
        code, stderr = end_command(studies[name], commands[name], *signals)
        assert code == exit_code, stderr
        assert "Traceback" not in stderr
        assert ("error: interrupted" in stderr) == (exit_code == 130)
        assert list(studies[name].temporary.glob("peakvram-*")) == []
        assert not (studies[name].out / ".locks").exists()
    assert_finishes(studies["twice"])


# ---- no room for records ----


@contextmanager
def a_disk(directory: Path, options: str) -> Iterator[Path]:
    """A file system of its own, over what is there; only root can make one."""
    directory.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(directory)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_full_disk_and_one_that_becomes_read_only_end_the_sweep_with_a_clear_word(
    new_study: Callable[[str], Study], tmp_path: Path
) -> None:
    frozen, full = new_study("frozen"), new_study("full")
    with a_disk(tmp_path / "small", "size=60k") as small:
        full = replace(full, out=small / "out")
        commands = {study: study.start() for study in (frozen, full)}
        wait_until(lambda: frozen.num_records > 0, "a record")
        with a_disk(frozen.out / "records", "ro"):
            for study, command in commands.items():
                _, stderr = command.communicate(timeout=PATIENCE_S)
                assert command.returncode == 3, stderr
                assert "Traceback" not in stderr
                assert "\nerror: cannot write " in f"\n{stderr}"
                assert "\nhint: free some room" in stderr
                wait_until_nothing_is_left(study, ())
                assert list(study.temporary.glob("peakvram-*")) == []
                assert not list(study.out.rglob("*.tmp"))
        full.assert_sound()
        assert 0 < full.num_records < len(full.jobs)
    assert_finishes(frozen)


def test_a_folder_that_may_not_be_written_to_is_refused_before_anything_starts(
    new_study: Callable[[str], Study], tmp_path: Path
) -> None:
    study = new_study("study")
    with a_disk(tmp_path / "disk", "ro") as disk:
        command = replace(study, out=disk / "out").start()
        stdout, stderr = command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, stdout) == (2, "")
    assert stderr == f"error: {disk} may not be written to\nhint: choose another place with --out\n"
    assert list(study.temporary.glob("peakvram-*")) == []


# ---- several sweeps at once ----


def test_two_sweeps_of_one_study_share_its_jobs(model: str, tmp_path: Path) -> None:
    jobs = [a_lora_job(model, rank, steps=15) for rank in range(1, 9)]
    sweeps = [start_sweep(jobs, tmp_path, num_workers=1) for _ in range(2)]
    ran = [finish_sweep(sweep) for sweep in sweeps]
    started = [key for each in ran for key, _ in each.told.of("started")]
    assert sorted(started) == sorted(job_key(job) for job in jobs), "every job once"
    for each in ran:
        assert each.summary is not None
        assert each.summary.num_done == len(jobs)
    assert len(RecordStore(tmp_path).scan().records) == len(jobs)
    assert not (tmp_path / ".locks").exists()


# ---- real cards: the sweep is a process of a machine that has two ----


def test_two_real_cards_run_a_job_each_at_a_time(model: str, tmp_path: Path) -> None:
    machine = a_machine(tmp_path / "machine", "a100-80gb", count=2)
    jobs = [a_lora_job(model, rank, gpu="real", steps=4) for rank in range(1, 7)]
    ran = finish_sweep(start_sweep(jobs, tmp_path / "study", environ=machine.environment(os.environ)))
    assert ran.summary is not None
    assert ran.summary.num_done == len(jobs), ran.told.events
    cards = {device_uuid(A100.name, index) for index in range(2)}
    assert {where for _, where in ran.told.of("finished")} == cards
    held: dict[str, str] = {}
    for what, key, where in ran.told.events:
        if what == "started":
            assert where not in held, "two jobs at once on a card"
            held[where] = key
        else:
            assert held.pop(where) == key, "it ran on another card than was leased"


def test_hidden_and_busy_cards_are_not_used_unless_allowed(model: str, tmp_path: Path) -> None:
    machine = a_machine(tmp_path / "machine", "a100-80gb", count=3)
    state = open_state(machine.state_path)
    state.devices[1].other_bytes = state.devices[1].used_bytes = GIB
    hidden = machine.environment(os.environ) | {"CUDA_VISIBLE_DEVICES": "1,2"}
    jobs = [a_lora_job(model, rank, gpu="real") for rank in range(1, 4)]
    on_busy = [job.model_copy(update={"gpu": "real:0", "steps": 1}) for job in jobs]
    free, refused = (
        start_sweep(jobs, tmp_path / "free", environ=hidden),
        start_sweep(on_busy, tmp_path / "refused", environ=hidden),
    )
    ran = finish_sweep(free)
    assert {where for _, where in ran.told.of("started")} == {device_uuid(A100.name, 2)}
    assert ran.summary is not None
    assert ran.summary.num_done == len(jobs)
    ran = finish_sweep(refused)
    assert ran.error.startswith(
        "GPU 0 (NVIDIA A100-SXM4-80GB) is in use: a process (pid 4242) holds 1.00 GiB"
    )
    assert len(ran.told.of("refused")) == len(jobs)
    assert not (tmp_path / "refused" / "records").exists()
    allowed = start_sweep(on_busy[:1], tmp_path / "beside", environ=hidden, allow_busy=True)
    ran = finish_sweep(allowed)
    assert [where for _, where in ran.told.of("finished")] == [device_uuid(A100.name, 1)]
    (stored,) = RecordStore(tmp_path / "beside").scan().records
    assert "other processes computed on the card: 4242" in stored.record.notes


def test_a_sweep_for_a_real_card_that_there_is_not_says_so(model: str, tmp_path: Path) -> None:
    machine = a_machine(tmp_path / "machine", "a100-80gb")
    jobs = [a_job(model=model, gpu="real:1", seq_len=64 * n) for n in (1, 2)]
    ran = finish_sweep(start_sweep(jobs, tmp_path / "study", environ=machine.environment(os.environ)))
    assert ran.error == "there is no GPU 1: CUDA sees 1, numbered from 0"
