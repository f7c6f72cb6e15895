"""What a sweep takes as one command, against one cold process a job, told from three of its jobs."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from pathlib import Path

from profiler.bench.timing import Timing, time_python

AXES = {
    "model": ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b"),
    "method": ("full", "lora", "qlora"),
    "gradient_checkpointing": (True, False),
    "seq_len": (256, 512, 1024, 2048, 3072, 4096, 8192),
}
COLD_JOBS = (("qwen2.5-0.5b", "full", 1024), ("llama-3.2-1b", "lora", 2048), ("llama-3.2-3b", "qlora", 4096))
GPU = "a100-80gb"
MIN_RATIO = 10.0
MAX_TREE_BYTES = 3 << 30


def bench_sweep() -> dict[str, object]:
    """Every job of the sweep is really run; its host memory is what all its processes hold at once."""
    cold_s = statistics.mean(_time_cold(*job) for job in COLD_JOBS)
    with tempfile.TemporaryDirectory() as directory:
        sweep = Path(directory) / "sweep.yaml"
        base = {"gpu": GPU, "steps": 2}
        sweep.write_text(json.dumps({"name": "bench", "base": base, "axes": AXES}))  # JSON is YAML
        command = ("-m", "profiler", "sweep", str(sweep), "--out", directory, "--no-prune")
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
        "min_ratio": MIN_RATIO,
        "tree_bytes": sweep.tree_bytes,
        "max_tree_bytes": MAX_TREE_BYTES,
        "holds": ratio >= MIN_RATIO and sweep.tree_bytes <= MAX_TREE_BYTES,
    }


def _time_cold(model: str, method: str, seq_len: int) -> float:
    options = ("--method", method, "--seq-len", str(seq_len), "--gpu", GPU, "--steps", "2")
    return time_python(("-m", "profiler", "run", model, *options)).elapsed_s
