"""What commands take, as ratios to importing the libraries they need; how many estimates fit in a second."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from profiler.bench.timing import time_python
from profiler.estimate.estimate import DEFAULT_FORMULA
from profiler.estimate.factors import default_factors
from profiler.estimate.frame import estimate_frame
from profiler.formula.catalogue import find_formula

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiler.bench.timing import Timing

IMPORTS = "import torch, transformers, peft, bitsandbytes"
RUN = ("-m", "profiler", "run")
ESTIMATE = ("-m", "profiler", "estimate")
MIN_ESTIMATES_PER_S = 20_000
TABLE = {
    "model": ("smollm2-135m", "llama-3.2-1b", "qwen2.5-7b", "llama-3.1-8b", "mistral-7b-v0.1"),
    "method.kind": ("full", "lora", "qlora"),
    "gradient_checkpointing.enabled": (True, False),
    "attention": ("sdpa", "eager"),
    "batch_size": tuple(range(1, 9)),
    "seq_len": tuple(range(128, 8193, 128)),
    "gpu": ("a100-80gb",),
}
"""A table of jobs: every combination."""


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


def bench_cases(cases: Sequence[Case], *, repeat: int) -> list[dict[str, object]]:
    """A row a case; the cases take turns, and the first is what the others are compared with."""
    turns = [[time_python(case.arguments) for case in cases] for _ in range(repeat)]
    return compare_cases(cases, turns)


def compare_cases(cases: Sequence[Case], turns: Sequence[Sequence[Timing]]) -> list[dict[str, object]]:
    """A row a case: the median of its times, its ratio to the first's, and the most memory of any turn."""
    medians = [
        statistics.median(timing.elapsed_s for timing in timings) for timings in zip(*turns, strict=True)
    ]
    rows: list[dict[str, object]] = []
    for case, elapsed_s, timings in zip(cases, medians, zip(*turns, strict=True), strict=True):
        ratio, host_bytes = elapsed_s / medians[0], max(timing.process_bytes for timing in timings)
        holds = (case.max_ratio is None or ratio <= case.max_ratio) and (
            case.max_host_bytes is None or host_bytes <= case.max_host_bytes
        )
        row: dict[str, object] = {
            "case": case.name,
            "elapsed_s": round(elapsed_s, 2),
            "ratio": round(ratio, 2),
        }
        row |= {"max_ratio": case.max_ratio, "host_bytes": host_bytes, "max_host_bytes": case.max_host_bytes}
        rows.append(row | {"holds": holds})
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
