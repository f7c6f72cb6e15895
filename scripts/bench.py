"""Times whole commands from a cold start, and counts the estimates of a table that a second is enough for.

Runs are told as ratios to importing torch, transformers, peft and bitsandbytes, an estimate as a ratio to
importing torch alone.
Seconds differ between machines, and with what else they do; ratios of commands that take turns differ little.
The host memory is the largest process's peak (the worker's), read from the kernel.

With --estimate: the estimates alone.

With --exec: a training script under `exec` against the same script on the same virtual card, left alone: what
following it costs, of the whole command and of its training steps.

With --sweep: a sweep of 210 jobs as one command, against one cold process a job, told from three of its jobs;
its host memory is what all its processes hold at once (the sum of their PSS, sampled).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from profiler.estimate.estimate import DEFAULT_FORMULA
from profiler.estimate.factors import default_factors
from profiler.estimate.frame import estimate_frame
from profiler.formula.catalogue import find_formula
from profiler.hardware.catalogue import find_gpu
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Mapping

IMPORTS = "import torch, transformers, peft, bitsandbytes"
RUN = ("-m", "profiler", "run")
ESTIMATE = ("-m", "profiler", "estimate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command, and what it may cost at most (None: it is what those after it are compared with)."""

    name: str
    arguments: tuple[str, ...]
    max_ratio: float | None = None
    max_host_bytes: int | None = None


ESTIMATE_CASES = (
    Case(name="import torch", arguments=("-c", "import torch")),
    Case(
        name="estimate, Llama-3.1-8B",
        arguments=(*ESTIMATE, "llama-3.1-8b", "--method", "qlora", "--gpu", "rtx-4090"),
        max_ratio=0.25,
    ),
)
RUN_CASES = (
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

TABLE = {
    "model": ("smollm2-135m", "llama-3.2-1b", "qwen2.5-7b", "llama-3.1-8b", "mistral-7b-v0.1"),
    "method.kind": ("full", "lora", "qlora"),
    "gradient_checkpointing.enabled": (True, False),
    "attention": ("sdpa", "eager"),
    "batch_size": tuple(range(1, 9)),
    "seq_len": tuple(range(128, 8193, 128)),
}
"""A table of jobs: every combination."""
TABLE_GPU = "a100-80gb"
MIN_ESTIMATES_PER_S = 20_000

SWEEP_MODELS = ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")
SWEEP_METHODS = ("full", "lora", "qlora")
SWEEP_LENGTHS = (256, 512, 1024, 2048, 3072, 4096, 8192)
NUM_JOBS = len(SWEEP_MODELS) * len(SWEEP_METHODS) * len(SWEEP_LENGTHS) * 2
COLD_JOBS = (("qwen2.5-0.5b", "full", 1024), ("llama-3.2-1b", "lora", 2048), ("llama-3.2-3b", "qlora", 4096))
SWEEP_GPU = "a100-80gb"
EXEC_SCRIPT = Path(__file__).parents[1] / "configs" / "published" / "scripts" / "mistral_7b.py"
# Without a mask: its value would be unknown where nothing is followed, and decide what runs.
EXEC_ARGUMENTS = (str(EXEC_SCRIPT), "--mask", "none", "--steps", "24")
EXEC_GPU = "a100-80gb"
MAX_EXEC_RATIO = 1.5

MIN_SWEEP_RATIO = 10.0
MAX_SWEEP_BYTES = 3 << 30
SAMPLE_S = 0.25


def main() -> int:
    """Run the cases in turn, print a line for each, and fail if one costs too much or is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each case; the median counts (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--estimate", action="store_true", help="time estimates alone")
    parser.add_argument("--exec", action="store_true", help="time a followed script instead")
    parser.add_argument("--sweep", action="store_true", help="time a sweep instead")
    options = parser.parse_args()
    if options.sweep:
        return _bench_sweep(as_json=options.json)
    if options.exec:
        return _bench_exec(repeat=options.repeat, as_json=options.json)
    rows = _time_cases(ESTIMATE_CASES, repeat=options.repeat)
    if not options.estimate:
        rows += _time_cases(RUN_CASES, repeat=options.repeat)
    table = _time_table(repeat=options.repeat)
    result = {"cases": rows, "table": table}
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else _cases(rows) + _lines(table))
    return 0 if all(row["holds"] for row in (*rows, table)) else 1


def _time_cases(cases: tuple[Case, ...], *, repeat: int) -> list[dict[str, object]]:
    """A row a case; the cases take turns, and the first is what the others are compared with."""
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    host_bytes: dict[str, int] = dict.fromkeys(seconds, 0)
    with tempfile.TemporaryDirectory() as out:
        for _ in range(repeat):
            for case in cases:
                elapsed_s, peak_bytes = _run(case, Path(out))
                seconds[case.name].append(elapsed_s)
                host_bytes[case.name] = max(host_bytes[case.name], peak_bytes)
    base_s = statistics.median(seconds[cases[0].name])
    return [
        _row(case, statistics.median(seconds[case.name]), base_s, host_bytes[case.name]) for case in cases
    ]


def _time_table(*, repeat: int) -> dict[str, object]:
    """How many jobs of a table are estimated in a second, on one core."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    jobs = pd.DataFrame(itertools.product(*TABLE.values()), columns=list(TABLE)).assign(gpu=TABLE_GPU)
    seconds = []
    for _ in range(repeat):
        started_s = time.perf_counter()
        estimate_frame(jobs, formula=find_formula(DEFAULT_FORMULA), factors=default_factors())
        seconds.append(time.perf_counter() - started_s)
    per_s = len(jobs) / statistics.median(seconds)
    return {
        "num_jobs": len(jobs),
        "elapsed_s": round(statistics.median(seconds), 3),
        "estimates_per_s": round(per_s),
        "min_estimates_per_s": MIN_ESTIMATES_PER_S,
        "holds": per_s >= MIN_ESTIMATES_PER_S,
    }


def _run(case: Case, out: Path) -> tuple[float, int]:
    is_run = case.arguments[: len(RUN)] == RUN
    arguments = (*case.arguments, "--out", str(out)) if is_run else case.arguments
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


def _cases(rows: list[dict[str, object]]) -> str:
    lines = [f"{'case':<24}{'seconds':>9}{'ratio':>8}{'at most':>9}{'host GiB':>10}{'at most':>9}"]
    for row in rows:
        host_gib = int(str(row["host_bytes"])) / (1 << 30)
        most = "" if row["max_ratio"] is None else f"{row['max_ratio']}"
        most_gib = "" if row["max_host_bytes"] is None else f"{int(str(row['max_host_bytes'])) >> 30}"
        failed = "" if row["holds"] else "  too much"
        figures = f"{row['elapsed_s']:>9}{row['ratio']:>8}{most:>9}{host_gib:>10.2f}{most_gib:>9}"
        lines.append(f"{row['case']:<24}{figures}{failed}")
    return "\n".join(lines) + "\n"


def _lines(result: Mapping[str, object]) -> str:
    return "".join(f"{name:<20}{value}\n" for name, value in result.items())


def _bench_exec(*, repeat: int, as_json: bool) -> int:
    followed: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        machine = launch_machine(Path(directory), find_gpu(EXEC_GPU))
        surroundings = machine.environment(os.environ)
        follow = ("-m", "profiler", "exec", "--gpu", EXEC_GPU, "--", sys.executable)
        for _ in range(repeat):
            alone.append(_time_training(EXEC_ARGUMENTS, surroundings))
            followed.append(_time_training((*follow, *EXEC_ARGUMENTS), dict(os.environ)))
    result: dict[str, object] = {"script": EXEC_SCRIPT.name}
    ratios = []
    for index, part in enumerate(("command", "training")):
        times = [statistics.median(run[index] for run in runs) for runs in (alone, followed)]
        ratios.append(times[1] / times[0])
        names = (f"{part}_alone_s", f"{part}_followed_s", f"{part}_ratio")
        result |= dict(zip(names, (round(value, 2) for value in (*times, ratios[-1])), strict=True))
    result |= {"max_command_ratio": MAX_EXEC_RATIO, "holds": ratios[0] <= MAX_EXEC_RATIO}
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if as_json else _lines(result))
    return 0 if result["holds"] else 1


def _time_training(arguments: tuple[str, ...], surroundings: dict[str, str]) -> tuple[float, float]:
    """Seconds of a whole command, and of its training as `Trainer` tells them."""
    started_s = time.perf_counter()
    told = subprocess.run(
        [sys.executable, *arguments], env=surroundings, capture_output=True, text=True, check=False
    )
    elapsed_s = time.perf_counter() - started_s
    found = re.search(r"'train_runtime': '?([0-9.]+)", told.stdout)
    if told.returncode != 0 or found is None:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{told.stderr}")
    return elapsed_s, float(found[1])


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
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if as_json else _lines(result))
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
