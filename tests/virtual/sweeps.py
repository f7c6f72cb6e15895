"""Sweeps for tests: run here or in a process of their own, with what they tell, start and leave behind.

`python -m tests.virtual.sweeps` runs one, described by a line of JSON on stdin, and prints what it told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.errors import PeakvramError
from profiler.execute.schedule import SweepOptions, SweepSummary, run_sweep
from profiler.jobs.identity import job_key
from profiler.jobs.job import JobSpec
from profiler.records.store import RecordStore
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiler.records.schema import Record

PATIENCE_S = 60


@dataclass
class Told:
    """What a sweep told, in order.

    Attributes:
        kill: the signal that the worker of a job is to get, by its seq_len, where it runs alone.
        events: what, the job's key (the card of a refused one), and where or why.
    """

    kill: Mapping[int, int] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    finished_records: list[Record] = field(default_factory=list)

    def started(self, spec: JobSpec, worker: str) -> None:
        self.events.append(("started", job_key(spec), worker))
        if spec.seq_len in self.kill:
            threading.Thread(target=kill_a_worker, args=(os.getpid(), self.kill[spec.seq_len])).start()

    def finished(self, record: Record) -> None:
        where = record.device.uuid if record.device and record.device.uuid else ""
        self.events.append(("finished", record.key, where))
        self.finished_records.append(record)

    def refused(self, spec: JobSpec, error: PeakvramError) -> None:
        self.events.append(("refused", spec.gpu, error.message))

    def of(self, what: str) -> list[tuple[str, str]]:
        """The job and the place of every event of a kind."""
        return [(job, where) for kind, job, where in self.events if kind == what]


@dataclass(frozen=True)
class Ran:
    """How a sweep in a process of its own went."""

    summary: SweepSummary | None
    error: str
    told: Told


def start_sweep(
    jobs: Iterable[JobSpec], directory: Path, *, environ: Mapping[str, str] = os.environ, **options: Any
) -> subprocess.Popen[str]:
    """Starts a sweep of these jobs in a process of its own; its answer is read by `finish_sweep`."""
    request = {
        "jobs": [job.model_dump(mode="json") for job in jobs],
        "directory": str(directory),
        "options": options,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.virtual.sweeps"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=dict(environ),
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return process


def finish_sweep(process: subprocess.Popen[str]) -> Ran:
    stdout, stderr = process.communicate(timeout=2 * PATIENCE_S)
    assert process.returncode == 0, stderr
    answer = json.loads(stdout.splitlines()[-1])
    summary = SweepSummary(**answer["summary"]) if answer["summary"] else None
    told = Told(events=[(what, job, where) for what, job, where in answer["events"]])
    return Ran(summary=summary, error=answer["error"], told=told)


def start_command(file: Path, out: Path, temporary: Path, *options: str) -> subprocess.Popen[str]:
    """Starts the command on a sweep file; all its processes keep their files in `temporary`."""
    return subprocess.Popen(
        [sys.executable, "-m", "profiler", "sweep", str(file), "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
    )


def a_sweep_file(path: Path, jobs: Sequence[JobSpec]) -> Path:
    """A sweep of exactly these jobs."""
    entries = [job.model_dump(mode="json", exclude_none=True) for job in jobs]
    path.parent.mkdir(parents=True, exist_ok=True)
    base, *others = entries
    shared = {key: value for key, value in base.items() if all(o.get(key) == value for o in others)}
    rest = [{key: value for key, value in entry.items() if key not in shared} for entry in entries]
    names = rest[0].keys()
    columns = {name: [entry[name] for entry in rest] for name in names}
    path.write_text(json.dumps({"name": path.stem, "base": shared, "zip": columns}))
    return path


# ---- processes ----


def forkserver_of(parent: int) -> int | None:
    """The process that jobs are forked from, if `parent` has one."""
    return next(iter(_children(parent, "profiler.execute.forkserver")), None)


def workers_of(parent: int) -> set[int]:
    forkserver = forkserver_of(parent)
    return set() if forkserver is None else set(_children(forkserver, ""))


def kill_a_worker(parent: int, number: int) -> None:
    """Sends a signal to the worker that runs, or to the next one."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        forkserver = forkserver_of(parent)
        for pid in workers_of(parent):
            # Once it has left the forkserver's standard error, it is on its way.
            if _standard_error(pid) not in {"", _standard_error(forkserver)}:
                os.kill(pid, number)
                return
        time.sleep(0.005)


def rooms_of(forkserver: int) -> list[Path]:
    """Where a forkserver's jobs keep their files."""
    words = Path(f"/proc/{forkserver}/cmdline").read_text().rstrip("\0").split("\0")
    return [Path(word) for word in words[-2:]]


def processes_with(temporary: Path) -> set[int]:
    """All processes that were given this directory for their files, or a part of it.

    A dead one has no environment.
    """
    return {
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if any(f"TMPDIR={temporary}{end}" in _read(process / "environ") for end in ("\0", "/"))
    }


def wait_until(condition: Any, what: str, *, patience_s: float = PATIENCE_S) -> Any:
    deadline_s = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"in vain: {what}"
        time.sleep(0.02)
    return value


def _standard_error(pid: int | None) -> str:
    with suppress(OSError):  # it has ended
        return str(Path(f"/proc/{pid}/fd/2").readlink())
    return ""


def _children(parent: int, command: str) -> list[int]:
    children = _read(Path(f"/proc/{parent}/task/{parent}/children")).split()
    return [int(pid) for pid in children if command in _read(Path(f"/proc/{pid}/cmdline"))]


def _read(path: Path) -> str:
    with suppress(OSError):  # it has ended
        return path.read_text(errors="replace")
    return ""


def main() -> None:
    request = json.loads(sys.stdin.readline())
    jobs = [JobSpec.model_validate(job) for job in request["jobs"]]
    told, summary, error = Told(), None, ""
    try:
        summary = run_sweep(
            jobs, RecordStore(Path(request["directory"])), SweepOptions(**request["options"]), told
        )
    except PeakvramError as refused:
        error = refused.message
    fields = {} if summary is None else {name: getattr(summary, name) for name in summary.__slots__}
    sys.stdout.write(json.dumps({"summary": fields, "error": error, "events": told.events}) + "\n")


if __name__ == "__main__":
    main()
