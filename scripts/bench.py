"""Times whole commands from a cold start, as ratios to importing torch, transformers, peft and bitsandbytes.

Seconds differ between machines, and with what else they do; ratios of commands that take turns differ little.
The host memory is the largest process's peak (the worker's), read from the kernel.

With --sweep: a sweep of 210 jobs as one command, against one cold process a job, told from three of its jobs;
its host memory is what all its processes hold at once (the sum of their PSS, sampled).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

IMPORTS = "import torch, transformers, peft, bitsandbytes"
RUN = ("-m", "profiler", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command, and what it may cost at most (None: it is what the others are compared with)."""

    name: str
    arguments: tuple[str, ...]
    max_ratio: float | None = None
    max_host_bytes: int | None = None


CASES = (
    Case(name="bare import", arguments=("-c", IMPORTS)),
    Case(
        name="QLoRA, Llama-3.1-8B",
        arguments=(*RUN, "llama-3.1-8b", "--method", "qlora", "--gpu", "rtx-4090"),
        max_ratio=2.5,
        max_host_bytes=2 << 30,
    ),
    Case(
        name="LoRA, Llama-3.1-405B",
        arguments=(*RUN, "llama-3.1-405b", "--method", "lora", "--gpu", "b200", "--gpu-memory", "2TiB"),
        max_ratio=4.0,
        max_host_bytes=3 << 30,
    ),
)

SWEEP_MODELS = ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")
SWEEP_METHODS = ("full", "lora", "qlora")
SWEEP_LENGTHS = (256, 512, 1024, 2048, 3072, 4096, 8192)
NUM_JOBS = len(SWEEP_MODELS) * len(SWEEP_METHODS) * len(SWEEP_LENGTHS) * 2
COLD_JOBS = (("qwen2.5-0.5b", "full", 1024), ("llama-3.2-1b", "lora", 2048), ("llama-3.2-3b", "qlora", 4096))
SWEEP_GPU = "a100-80gb"
MIN_SWEEP_RATIO = 10.0
MAX_SWEEP_BYTES = 3 << 30
SAMPLE_S = 0.25


def main() -> int:
    """Run the cases in turn, print a line for each, and fail if one costs too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each case; the median counts (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sweep", action="store_true", help="time a sweep instead")
    options = parser.parse_args()
    if options.sweep:
        return _bench_sweep(as_json=options.json)
    seconds: dict[str, list[float]] = {case.name: [] for case in CASES}
    host_bytes: dict[str, int] = dict.fromkeys(seconds, 0)
    with tempfile.TemporaryDirectory() as out:
        for _ in range(options.repeat):
            for case in CASES:
                elapsed_s, peak_bytes = _run(case, Path(out))
                seconds[case.name].append(elapsed_s)
                host_bytes[case.name] = max(host_bytes[case.name], peak_bytes)
    base_s = statistics.median(seconds[CASES[0].name])
    rows = [
        _row(case, statistics.median(seconds[case.name]), base_s, host_bytes[case.name]) for case in CASES
    ]
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if options.json else _table(rows))
    return 0 if all(row["holds"] for row in rows) else 1


def _run(case: Case, out: Path) -> tuple[float, int]:
    arguments = case.arguments if case.max_ratio is None else (*case.arguments, "--out", str(out))
    started_s = time.perf_counter()
    with (out / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    elapsed_s = time.perf_counter() - started_s
    if status != 0:
        raise SystemExit(f"{case.name} failed:\n{(out / 'log').read_text()}")
    return elapsed_s, usage.ru_maxrss * 1024  # KiB on Linux; its children's included


def _row(case: Case, elapsed_s: float, base_s: float, host_bytes: int) -> dict[str, object]:
    ratio = elapsed_s / base_s
    holds = (case.max_ratio is None or ratio <= case.max_ratio) and (
        case.max_host_bytes is None or host_bytes <= case.max_host_bytes
    )
    return {
        "case": case.name,
        "elapsed_s": round(elapsed_s, 2),
        "ratio": round(ratio, 2),
        "max_ratio": case.max_ratio,
        "host_bytes": host_bytes,
        "max_host_bytes": case.max_host_bytes,
        "holds": holds,
    }


def _table(rows: list[dict[str, object]]) -> str:
    lines = [f"{'case':<24}{'seconds':>9}{'ratio':>8}{'at most':>9}{'host GiB':>10}{'at most':>9}"]
    for row in rows:
        host_gib = int(str(row["host_bytes"])) / (1 << 30)
        most = "" if row["max_ratio"] is None else f"{row['max_ratio']}"
        most_gib = "" if row["max_host_bytes"] is None else f"{int(str(row['max_host_bytes'])) >> 30}"
        failed = "" if row["holds"] else "  too much"
        figures = f"{row['elapsed_s']:>9}{row['ratio']:>8}{most:>9}{host_gib:>10.2f}{most_gib:>9}"
        lines.append(f"{row['case']:<24}{figures}{failed}")
    return "\n".join(lines) + "\n"


def _bench_sweep(*, as_json: bool) -> int:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "cold").mkdir()
        cold_s = statistics.mean(_time_cold(place, *job) for job in COLD_JOBS)
        elapsed_s, tree_bytes = _time_sweep(place)
    ratio = cold_s * NUM_JOBS / elapsed_s
    result = {
        "num_jobs": NUM_JOBS,
        "elapsed_s": round(elapsed_s, 1),
        "jobs_per_s": round(NUM_JOBS / elapsed_s, 2),
        "cold_job_s": round(cold_s, 2),
        "ratio": round(ratio, 1),
        "min_ratio": MIN_SWEEP_RATIO,
        "tree_bytes": tree_bytes,
        "max_tree_bytes": MAX_SWEEP_BYTES,
        "holds": ratio >= MIN_SWEEP_RATIO and tree_bytes <= MAX_SWEEP_BYTES,
    }
    text = json.dumps(result, indent=2) if as_json else "\n".join(f"{k:<16}{v}" for k, v in result.items())
    sys.stdout.write(text + "\n")
    return 0 if result["holds"] else 1


def _time_cold(place: Path, model: str, method: str, seq_len: int) -> float:
    options = ("--method", method, "--seq-len", str(seq_len), "--gpu", SWEEP_GPU, "--steps", "2")
    return _run(Case(name="cold run", arguments=(*RUN, model, *options), max_ratio=1.0), place / "cold")[0]


def _time_sweep(place: Path) -> tuple[float, int]:
    """Seconds of the whole command, and the most its processes held together. Every job is really run."""
    axes = {
        "model": SWEEP_MODELS,
        "method": SWEEP_METHODS,
        "gradient_checkpointing": (True, False),
        "seq_len": SWEEP_LENGTHS,
    }
    sweep = {"name": "bench", "base": {"gpu": SWEEP_GPU, "steps": 2}, "axes": axes}
    (place / "sweep.yaml").write_text(json.dumps(sweep))  # JSON is YAML
    command = ["-m", "profiler", "sweep", str(place / "sweep.yaml"), "--out", str(place), "--no-prune"]
    started_s = time.perf_counter()
    with (place / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log)
        samples: list[int] = []
        sampler = threading.Thread(target=_sample, args=(process, samples))
        sampler.start()
        code = process.wait()
    elapsed_s = time.perf_counter() - started_s
    sampler.join()
    if code != 0:
        raise SystemExit(f"the sweep failed:\n{(place / 'log').read_text()}")
    return elapsed_s, max(samples)


def _sample(process: subprocess.Popen[bytes], samples: list[int]) -> None:
    while process.poll() is None:
        samples.append(sum(map(_pss_bytes, _tree(process.pid))))
        time.sleep(SAMPLE_S)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return []
    return [pid, *(process for child in children for process in _tree(int(child)))]


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())
