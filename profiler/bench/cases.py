"""What is timed, and what it may cost: commands, a table of estimates, a followed script, a sweep."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from profiler.bench.timing import Timing, time_python
from profiler.errors import PeakvramError
from profiler.estimate.estimate import DEFAULT_FORMULA
from profiler.estimate.factors import default_factors
from profiler.estimate.frame import estimate_frame
from profiler.formula.catalogue import find_formula
from profiler.hardware.catalogue import find_gpu
from profiler.resources import configs_dir
from profiler.virtual.launch import launch_machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROFILER = ("-m", "profiler")
QLORA_8B = ("llama-3.1-8b", "--method", "qlora", "--gpu", "rtx-4090")
LORA_405B = ("llama-3.1-405b", "--method", "lora", "--gpu", "b200", "--gpu-memory", "2TiB")
GPU = "a100-80gb"

MIN_ESTIMATES_PER_S = 20_000
TABLE = {
    "model": ("smollm2-135m", "llama-3.2-1b", "qwen2.5-7b", "llama-3.1-8b", "mistral-7b-v0.1"),
    "method.kind": ("full", "lora", "qlora"),
    "gradient_checkpointing.enabled": (True, False),
    "attention": ("sdpa", "eager"),
    "batch_size": tuple(range(1, 9)),
    "seq_len": tuple(range(128, 8193, 128)),
    "gpu": (GPU,),
}
"""A table of jobs: every combination."""

SCRIPT = "mistral_7b.py"
# Without a mask: its value would be unknown where nothing is followed, and decide what runs.
SCRIPT_ARGUMENTS = ("--mask", "none", "--steps", "24")
MAX_COMMAND_RATIO = 1.5

AXES = {
    "model": ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b"),
    "method": ("full", "lora", "qlora"),
    "gradient_checkpointing": (True, False),
    "seq_len": (256, 512, 1024, 2048, 3072, 4096, 8192),
}
COLD_JOBS = (("qwen2.5-0.5b", "full", 1024), ("llama-3.2-1b", "lora", 2048), ("llama-3.2-3b", "qlora", 4096))
MIN_SWEEP_RATIO = 10.0
MAX_TREE_BYTES = 3 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedCommand:
    """A command, and what it may cost at most; None: it is what those after it are compared with."""

    name: str
    arguments: tuple[str, ...]
    max_ratio: float | None = None
    max_host_bytes: int | None = None


ESTIMATES = (
    TimedCommand(name="import torch", arguments=("-c", "import torch")),
    TimedCommand(name="estimate, Llama-3.1-8B", arguments=(*PROFILER, "estimate", *QLORA_8B), max_ratio=0.25),
)
RUNS = (
    TimedCommand(name="bare import", arguments=("-c", "import torch, transformers, peft, bitsandbytes")),
    TimedCommand(
        name="QLoRA, Llama-3.1-8B",
        arguments=(*PROFILER, "run", *QLORA_8B),
        max_ratio=2.5,
        max_host_bytes=2 << 30,
    ),
    TimedCommand(
        name="LoRA, Llama-3.1-405B",
        arguments=(*PROFILER, "run", *LORA_405B),
        max_ratio=4.0,
        max_host_bytes=3 << 30,
    ),
)


def bench_commands(commands: Sequence[TimedCommand], *, repeat: int) -> list[dict[str, object]]:
    """A row a command; they take turns, and the first is what the others are compared with."""
    turns = [[time_python(command.arguments) for command in commands] for _ in range(repeat)]
    return compare_commands(commands, turns)


def compare_commands(
    commands: Sequence[TimedCommand], turns: Sequence[Sequence[Timing]]
) -> list[dict[str, object]]:
    """A row a command: the median of its times, its ratio to the first's, and the most memory of any turn."""
    rows: list[dict[str, object]] = []
    first_s = statistics.median(turn[0].elapsed_s for turn in turns)
    for command, timings in zip(commands, zip(*turns, strict=True), strict=True):
        elapsed_s = statistics.median(timing.elapsed_s for timing in timings)
        ratio, host_bytes = elapsed_s / first_s, max(timing.process_bytes for timing in timings)
        row = {
            "case": command.name,
            "elapsed_s": round(elapsed_s, 2),
            "ratio": round(ratio, 2),
            "max_ratio": command.max_ratio,
            "host_bytes": host_bytes,
            "max_host_bytes": command.max_host_bytes,
            "holds": ratio <= (command.max_ratio or math.inf)
            and host_bytes <= (command.max_host_bytes or math.inf),
        }
        rows.append(row)
    return rows


def bench_table(*, repeat: int, table: Mapping[str, Sequence[object]] = TABLE) -> dict[str, object]:
    """How many jobs of a table are estimated in a second, on one core; this process stays on it."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    jobs = pd.DataFrame(itertools.product(*table.values()), columns=list(table))
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


def bench_script(*, repeat: int) -> dict[str, object]:
    """A script alone and followed in turn; their times are of the whole command and of its training steps."""
    script = (str(configs_dir() / "published" / "scripts" / SCRIPT), *SCRIPT_ARGUMENTS)
    follow = (*PROFILER, "exec", "--gpu", GPU, "--", sys.executable)
    alone, followed = [], []
    with tempfile.TemporaryDirectory() as directory:
        surroundings = launch_machine(Path(directory), find_gpu(GPU)).environment(os.environ)
        for _ in range(repeat):
            alone.append(_time_training(script, environment=surroundings))
            followed.append(_time_training((*follow, *script)))
    return {"script": SCRIPT} | compare_training(alone, followed)


def compare_training(
    alone: Sequence[tuple[float, float]], followed: Sequence[tuple[float, float]]
) -> dict[str, object]:
    """Medians of (whole command, training) in seconds, their ratios, and whether the command's is allowed."""
    medians = [[statistics.median(part) for part in zip(*runs, strict=True)] for runs in (alone, followed)]
    result: dict[str, object] = {}
    for name, alone_s, followed_s in zip(("command", "training"), *medians, strict=True):
        result |= {f"{name}_alone_s": round(alone_s, 2), f"{name}_followed_s": round(followed_s, 2)}
        result[f"{name}_ratio"] = round(followed_s / alone_s, 2)
    holds = medians[1][0] / medians[0][0] <= MAX_COMMAND_RATIO
    return result | {"max_command_ratio": MAX_COMMAND_RATIO, "holds": holds}


def _time_training(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """Seconds of a whole command, and of its training as `Trainer` tells them."""
    timing = time_python(arguments, environment=environment)
    runtime = re.search(r"'train_runtime': '?([0-9.]+)", timing.output)
    if runtime is None:
        raise PeakvramError(f"{' '.join(arguments)} told no time:\n{timing.output}")
    return timing.elapsed_s, float(runtime[1])


def bench_sweep() -> dict[str, object]:
    """Every job of the sweep is really run; its host memory is what all its processes hold at once."""
    cold_s = statistics.mean(_time_cold(*job) for job in COLD_JOBS)
    with tempfile.TemporaryDirectory() as directory:
        sweep = Path(directory) / "sweep.yaml"
        base = {"gpu": GPU, "steps": 2}
        sweep.write_text(json.dumps({"name": "bench", "base": base, "axes": AXES}))  # JSON is YAML
        command = (*PROFILER, "sweep", str(sweep), "--out", directory, "--no-prune")
        timing = time_python(command, is_tree_watched=True)
    return compare_sweep(timing, num_jobs=math.prod(map(len, AXES.values())), cold_s=cold_s)


def compare_sweep(sweep: Timing, *, num_jobs: int, cold_s: float) -> dict[str, object]:
    """How many times faster a sweep is than `num_jobs` processes of `cold_s` seconds each."""
    ratio = cold_s * num_jobs / sweep.elapsed_s
    return {
        "num_jobs": num_jobs,
        "elapsed_s": round(sweep.elapsed_s, 1),
        "jobs_per_s": round(num_jobs / sweep.elapsed_s, 2),
        "cold_job_s": round(cold_s, 2),
        "ratio": round(ratio, 1),
        "min_ratio": MIN_SWEEP_RATIO,
        "tree_bytes": sweep.tree_bytes,
        "max_tree_bytes": MAX_TREE_BYTES,
        "holds": ratio >= MIN_SWEEP_RATIO and sweep.tree_bytes <= MAX_TREE_BYTES,
    }


def _time_cold(model: str, method: str, seq_len: int) -> float:
    options = ("--method", method, "--seq-len", str(seq_len), "--gpu", GPU, "--steps", "2")
    return time_python((*PROFILER, "run", model, *options)).elapsed_s
