"""Jobs that come to grief: each leaves a record of how far it came and why, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from profiler.errors import MachineFaultError
from profiler.execute.local import run_job
from profiler.process.protocol import REQUEST, Request
from profiler.records.schema import OutcomeStatus, PhaseName, PhaseReading, Record
from tests.builders import ROOT, no_room
from tests.virtual.jobs import a_job, a_model, run_warm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.virtual.harness import WarmMachines

PATIENCE_S = 60


class Place:
    """Where a job keeps its files, so that what is left of it can be told from what other jobs leave."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.scratch: Path | None = None

    def find_worker(self) -> int | None:
        """The process id of the worker that runs in this place; looks at where it keeps its files, too."""
        for path in self.directory.glob(f"peakvram-*/{REQUEST}"):
            self.scratch = Path(Request.model_validate_json(path.read_text()).scratch)
            for process in Path("/proc").glob("[0-9]*"):
                if str(path.parent) in _command_line(process):
                    return int(process.name)
        return None

    def wait_for_worker(self) -> int:
        deadline_s = time.monotonic() + PATIENCE_S
        while (pid := self.find_worker()) is None:
            assert time.monotonic() < deadline_s, "no worker was started"
            time.sleep(0.02)
        return pid

    def assert_empty(self) -> None:
        assert self.find_worker() is None
        assert list(self.directory.glob("peakvram-*")) == []
        assert self.scratch is None or not self.scratch.exists()


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:  # it has ended
        return ""


def wait_until_gone(pid: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while _command_line(Path(f"/proc/{pid}")):  # one that nobody has waited for has no command line left
        assert time.monotonic() < deadline_s, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The temporary files of jobs that this process or a command starts; nothing may stay there."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", None)
    place = Place(directory)
    yield place
    place.assert_empty()


@pytest.fixture
def model(tmp_path: Path) -> str:
    return a_model(tmp_path / "model")


def assert_interrupted(record: Record, *, after: PhaseName) -> None:
    """The phases up to `after` are whole, and the outcome names the one that followed."""
    names = [phase.name for phase in record.phases]
    assert after in names
    assert all(phase.is_complete for phase in record.phases)
    assert record.peak is not None
    assert record.components is not None
    if names[-1] is PhaseName.ZERO_GRAD:
        following = PhaseName.FORWARD
    else:
        following = list(PhaseName)[list(PhaseName).index(names[-1]) + 1]
    assert record.outcome.phase is following
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_a_killed_worker_leaves_every_phase_it_completed(place: Place, model: str) -> None:
    def kill(reading: PhaseReading) -> None:
        if reading.name is PhaseName.ADAPT:
            os.kill(place.wait_for_worker(), signal.SIGKILL)

    record = run_job(a_job(model=model, method="lora", steps=1000), on_phase=kill)
    assert record.outcome.status is OutcomeStatus.KILLED
    assert record.outcome.signal == signal.SIGKILL
    assert record.outcome.message == "the worker was killed by SIGKILL; the host may have run out of memory"
    assert_interrupted(record, after=PhaseName.ADAPT)


def test_a_worker_that_crashes_tells_where(virtual_gpu: WarmMachines, model: str) -> None:
    job = a_job(model=model, method="lora", steps=1000)
    record = run_warm(virtual_gpu, job, signals={PhaseName.OPTIMIZER: signal.SIGSEGV})
    assert record.outcome.status is OutcomeStatus.KILLED
    assert record.outcome.signal == signal.SIGSEGV
    assert record.outcome.message is not None
    assert record.outcome.message.startswith(
        "the worker was killed by SIGSEGV: Fatal Python error: Segmentation fault"
    )
    assert 'File "' in record.outcome.message
    assert len(record.outcome.message.splitlines()) <= 12
    assert_interrupted(record, after=PhaseName.OPTIMIZER)


def test_a_worker_that_is_interrupted_was_killed_and_did_not_fail(
    virtual_gpu: WarmMachines, model: str
) -> None:
    job = a_job(model=model, method="lora", steps=1000)
    record = run_warm(virtual_gpu, job, signals={PhaseName.ADAPT: signal.SIGINT})
    assert record.outcome.status is OutcomeStatus.KILLED
    assert record.outcome.signal == signal.SIGINT


def test_a_worker_that_hangs_is_ended_at_the_time_limit(virtual_gpu: WarmMachines, model: str) -> None:
    started_s = time.monotonic()
    record = run_warm(
        virtual_gpu,
        a_job(model=model, method="lora", steps=1000),
        signals={PhaseName.LOAD: signal.SIGSTOP},
        timeout_s=4,
    )
    assert time.monotonic() - started_s < 30
    assert record.outcome.status is OutcomeStatus.TIMEOUT
    assert record.outcome.message == "killed after the time limit of 4 s"
    assert_interrupted(record, after=PhaseName.LOAD)


def test_a_time_limit_that_is_too_short_for_anything_leaves_a_record_without_phases(
    place: Place, model: str
) -> None:
    record = run_job(a_job(model=model), timeout_s=0.1)
    assert place.find_worker() is None
    assert record.outcome.status is OutcomeStatus.TIMEOUT
    assert record.outcome.phase is None
    assert record.phases == ()
    assert record.peak is None
    assert record.device is not None
    assert record.environment is not None
    assert record.environment.torch is not None


def test_an_exception_in_a_phase_is_the_outcome_with_its_phase(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    # Three key and value heads for four query heads: attention cannot pair them.
    model = a_model(tmp_path / "odd", num_key_value_heads=3)
    record = run_warm(virtual_gpu, a_job(model=model))
    assert record.outcome.status is OutcomeStatus.ERROR
    assert (record.outcome.phase, record.outcome.step) == (PhaseName.FORWARD, 0)
    assert record.outcome.message is not None
    said, raised = record.outcome.message.splitlines()
    assert said.startswith("RuntimeError: ")
    assert raised.startswith("raised in transformers ")
    assert raised.endswith("model.layers.0.self_attn (LlamaAttention)")
    assert [phase.is_complete for phase in record.phases] == [True] * 5 + [False]
    assert record.phases[-1].name is PhaseName.FORWARD
    assert record.phases[-1].allocated_peak_bytes > 0
    assert record.components is not None, "those of the last complete phase"


def test_a_library_that_cannot_be_imported_is_an_error_in_its_own_words(
    place: Place, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "peft"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('this peft was built for another torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    record = run_job(a_job(model=model))
    assert place.find_worker() is None
    assert record.outcome.status is OutcomeStatus.ERROR
    assert record.outcome.exit_code == 1
    assert record.outcome.message is not None
    assert record.outcome.message.endswith("RuntimeError: this peft was built for another torch")
    assert record.phases == ()


def test_nothing_in_the_working_directory_stands_in_for_a_module(
    place: Place, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "project"
    directory.mkdir()
    for name in ("random", "types", "torch", "profiler"):
        (directory / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}.py was imported')\n")
    monkeypatch.chdir(directory)
    record = run_job(a_job(model=model, steps=1))
    assert place.find_worker() is None
    assert record.outcome.status is OutcomeStatus.OK, record.outcome.message


# ---- the command, ended from outside ----


def start_command(model: str, out: Path, *options: str) -> subprocess.Popen[str]:
    command = ["run", model, "--gpu", "rtx-4090", "--method", "lora", "--steps", "1000", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "profiler", *command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("number", "exit_code", "said"),
    [
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGTERM, 143, "error: ended by SIGTERM\n"),
        (signal.SIGHUP, 129, "error: ended by SIGHUP\n"),
    ],
)
def test_an_ended_command_ends_its_worker_and_writes_nothing(
    number: signal.Signals, exit_code: int, said: str, place: Place, tmp_path: Path
) -> None:
    command = start_command(a_model(tmp_path / "model"), tmp_path / "out")
    worker = place.wait_for_worker()
    command.send_signal(number)
    stdout, stderr = command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, stdout, stderr) == (exit_code, "", said)
    wait_until_gone(worker)
    assert not (tmp_path / "out").exists()


def test_a_worker_does_not_outlive_a_command_that_is_killed(model: str, tmp_path: Path) -> None:
    directory = tmp_path / "temporary"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(directory))
        command = start_command(model, tmp_path / "out")
    place = Place(directory)
    worker = place.wait_for_worker()
    command.kill()
    command.communicate(timeout=PATIENCE_S)
    wait_until_gone(worker)
    assert place.scratch is not None
    # Nobody was left to do it, but a run that has begun since may have.
    shutil.rmtree(place.scratch, ignore_errors=True)


def test_a_time_limit_is_exit_code_124_and_recorded(place: Place, model: str, tmp_path: Path) -> None:
    command = start_command(model, tmp_path / "out", "--timeout", "0.1")
    stdout, stderr = command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, stderr) == (124, "")
    assert place.find_worker() is None
    assert "stopped at the time limit" in stdout
    (path,) = (tmp_path / "out" / "records").iterdir()
    assert Record.model_validate_json(path.read_text()).outcome.status is OutcomeStatus.TIMEOUT


def test_a_full_disk_loses_the_file_but_not_the_figures(
    place: Place, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A record is flushed to the disk before it gets its name: that is where a full one shows at the latest.
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "sitecustomize.py").write_text(
        "import errno, os\n"
        "def fsync(_descriptor):\n"
        "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "os.fsync = fsync\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "full"))
    command = start_command(model, tmp_path / "out", "--timeout", "0.1")
    stdout, stderr = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 3
    assert place.find_worker() is None
    assert "stopped at the time limit" in stdout
    assert "Wrote" not in stdout
    assert stderr.startswith("error: cannot write ")
    assert ": no space left on device\nhint: free some room" in stderr
    assert list((tmp_path / "out" / "records").iterdir()) == []


def test_no_room_for_the_weights_is_the_machines_fault_and_no_outcome(place: Place, model: str) -> None:
    job = a_job(model=model)
    refused: MachineFaultError | None = None
    with no_room(2**20):
        try:
            run_job(job)
        except MachineFaultError as error:
            refused = error
    assert refused is not None
    assert refused.exit_code == 3
    assert "file too large" in refused.message
    place.assert_empty()
