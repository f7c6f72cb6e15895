"""What a very large study costs: planned, exported, compared and reported, and a job looked up in it."""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiler.bench.timing import Timing, time_python
from profiler.files import write_chunks
from profiler.jobs.expansion import expand
from profiler.jobs.identity import job_key
from profiler.jobs.sweep import load_sweep
from profiler.records.fingerprint import fingerprint_of
from profiler.records.packed import PACK_NAME, pack_pieces
from profiler.records.store import RecordStore
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

GPU = "a100-80gb"
AXES: Mapping[str, Sequence[object]] = {
    "model": ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "llama-3.1-8b"),
    "method": ("full", "lora", "qlora"),
    "gradient_checkpointing": (True, False),
    "batch_size": tuple(range(1, 66)),
    "seq_len": tuple(range(128, 8193, 128)),
}
"""A study of 99,840 jobs: every combination."""
MAX_HOST_BYTES: Final = 1 * GIB
MAX_FIND_MS: Final = 1.0
NUM_LOOKUPS = 2_000


def bench_study() -> dict[str, object]:
    """Times the commands that read a study of a record a job, each in a process of its own.

    The records are copies of one that a virtual card gave, each for a job of its own: what they say of other
    jobs is not true, and how long they are is.
    """
    with tempfile.TemporaryDirectory() as directory:
        sweep, study = Path(directory) / "sweep.yaml", Path(directory) / "study"
        sweep.write_text(json.dumps({"name": "bench", "base": {"gpu": GPU}, "axes": AXES}))  # JSON is YAML
        jobs = expand(load_sweep(sweep)).jobs
        template = _run_one(Path(directory) / "template")
        fill_study(study, template, jobs)
        commands = {
            "plan": ("plan", str(sweep), "--out", str(study)),
            "export": ("export", str(study)),
            "compare": ("compare", str(study), str(study)),
            "report": ("report", str(study)),
        }
        timings = {name: time_python(("-m", "profiler", *command)) for name, command in commands.items()}
        return compare_study(timings, num_records=len(jobs), lookup_ms=find_ms(study, template, jobs))


def compare_study(
    timings: Mapping[str, Timing], *, num_records: int, lookup_ms: tuple[float, float]
) -> dict[str, object]:
    """Seconds and host memory of each command, and how long it takes to find a job and not to find one."""
    result: dict[str, object] = {"num_records": num_records}
    for name, timing in timings.items():
        result |= {f"{name}_s": round(timing.elapsed_s, 1), f"{name}_bytes": timing.process_bytes}
    stored_ms, missing_ms = lookup_ms
    most_bytes = max(timing.process_bytes for timing in timings.values())
    return result | {
        "max_bytes": MAX_HOST_BYTES,
        "find_stored_ms": round(stored_ms, 3),
        "find_missing_ms": round(missing_ms, 3),
        "max_find_ms": MAX_FIND_MS,
        "holds": most_bytes <= MAX_HOST_BYTES and max(lookup_ms) <= MAX_FIND_MS,
    }


def _run_one(directory: Path) -> Record:
    time_python(("-m", "profiler", "run", "smollm2-135m", "--gpu", GPU, "--out", str(directory)))
    return next(RecordStore(directory).read()).record


def fill_study(study: Path, template: Record, jobs: Sequence[JobSpec]) -> None:
    """Writes a packed study: the same record for every job."""
    study.mkdir()
    records = (template.model_copy(update={"spec": job, "key": job_key(job)}) for job in jobs)
    write_chunks(study / PACK_NAME, pack_pieces(record.model_dump_json().encode() for record in records))


def find_ms(study: Path, template: Record, jobs: Sequence[JobSpec]) -> tuple[float, float]:
    """Medians for jobs that are stored and for jobs that are not, once the study has been read."""
    store, fingerprint = RecordStore(study), fingerprint_of(template)
    store.num_records()
    stored = [job_key(job) for job in random.Random(0).sample(jobs, min(NUM_LOOKUPS, len(jobs)))]
    missing = [key[::-1] for key in stored]
    return _median_ms(store, stored, fingerprint), _median_ms(store, missing, fingerprint)


def _median_ms(store: RecordStore, keys: Sequence[str], fingerprint: str | None) -> float:
    taken = []
    for key in keys:
        started_s = time.perf_counter()
        store.find(key, fingerprint)
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken) * 1e3
