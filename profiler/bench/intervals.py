"""How often an estimate's interval holds what the run gives: random jobs, each estimated and run."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from profiler.bench.timing import time_python
from profiler.estimate.card import card_of
from profiler.estimate.estimate import DEFAULT_FORMULA, Estimate, estimate_job, single
from profiler.estimate.factors import default_factors
from profiler.formula.catalogue import find_formula
from profiler.formula.families import FAMILIES
from profiler.jobs.presets import list_presets
from profiler.records.schema import OutcomeStatus
from profiler.records.store import RecordStore

if TYPE_CHECKING:
    from profiler.estimate.apply import Band
    from profiler.records.schema import Record

GPU: Final = "a100-80gb"
GPU_MEMORY: Final = "2TiB"
"""Room for every job: one that does not fit says nothing of the interval."""
MAX_PARAMETERS: Final = 9_500_000_000
"""Larger models take the time of many jobs each."""
LEVEL: Final = 0.9
"""What an interval of the shipped factors is meant to hold."""


def random_jobs(num_jobs: int, *, seed: int) -> list[dict[str, Any]]:
    """Jobs of presets that formulas speak of and that are not too large; some of the jobs cannot run."""
    draw = random.Random(seed)
    models = [
        model.id
        for model in list_presets()
        if model.num_parameters <= MAX_PARAMETERS and model.architecture.model_type in FAMILIES
    ]
    return [_random_job(draw, draw.choice(models)) for _ in range(num_jobs)]


def _random_job(draw: random.Random, model: str) -> dict[str, Any]:
    kind = draw.choice(["full", "lora", "qlora", "int8-lora"])
    job: dict[str, Any] = {
        "model": model,
        "method": {"kind": kind},
        "gradient_checkpointing": draw.choice([True, False]),
        "attention": draw.choice(["sdpa", "sdpa", "eager"]),
        "attention_mask": draw.choice(["none", "full", "padded"]),
        "loop": draw.choice(["plain", "trainer"]),
        "optimizer": draw.choice(["adamw_torch", "adamw_torch", "adamw_bnb_8bit", "adafactor", "sgd"]),
        "batch_size": draw.choice([1, 1, 2, 3, 4, 8]),
        "seq_len": draw.randrange(64, 4097),
    }
    if kind in ("full", "lora"):
        job["precision"] = draw.choice(["bf16", "bf16", "bf16-amp", "fp32"])
    if kind != "full":
        job["method"] |= {
            "rank": draw.choice([4, 8, 16, 64, 256]),
            "targets": draw.choice(["all-linear", "all-linear", "q_proj,v_proj", "down_proj"]),
            "dropout": draw.choice([0.0, 0.05]),
        }
    return job


def bench_intervals(*, num_jobs: int, seed: int = 0) -> dict[str, object]:
    """Runs the jobs as one sweep on a virtual card, and counts how often their intervals hold.

    Returns:
        How many jobs ran, of how many the formula speaks, and the shares of allocated and reserved peaks that
        their intervals held; what runs are below and above them; the widest miss of an allocated peak.
    """
    with tempfile.TemporaryDirectory() as directory:
        sweep, study = Path(directory) / "sweep.yaml", Path(directory) / "study"
        base = {"gpu": GPU, "gpu_memory_bytes": GPU_MEMORY, "steps": 2}
        include = random_jobs(num_jobs, seed=seed)
        sweep.write_text(json.dumps({"name": "intervals", "base": base, "include": include}))  # JSON is YAML
        command = ("-m", "profiler", "sweep", str(sweep), "--out", str(study), "--no-prune")
        time_python(command, codes=(0, 1))  # 1: some of the jobs cannot be run
        return compare_intervals([stored.record for stored in RecordStore(study).read()])


def compare_intervals(records: list[Record]) -> dict[str, object]:
    """What `bench_intervals` returns, of records of jobs."""
    ran = [record for record in records if record.outcome.status is OutcomeStatus.OK]
    formula, factors = find_formula(DEFAULT_FORMULA), default_factors()
    misses: dict[str, Counter[str]] = {"allocated": Counter(), "reserved": Counter()}
    worst = 0.0
    for record in ran:
        estimated = estimate_job(record.spec, formula=formula, factors=factors, card=card_of(record.spec))
        if not isinstance(estimated, Estimate) or record.peak is None or estimated.corrected.reserved is None:
            continue
        allocated, reserved = estimated.corrected.allocated, estimated.corrected.reserved
        misses["allocated"][_side(allocated, record.peak.allocated_bytes)] += 1
        misses["reserved"][_side(reserved, record.peak.reserved_bytes)] += 1
        worst = max(worst, abs(single(allocated.value_bytes) / record.peak.allocated_bytes - 1))
    num_estimated = misses["allocated"].total()
    shares = {name: sides["within"] / max(1, num_estimated) for name, sides in misses.items()}
    return {
        "num_jobs": len(records),
        "num_run": len(ran),
        "num_estimated": num_estimated,
        **{f"{name}_{side}": sides[side] for name, sides in misses.items() for side in ("below", "above")},
        **{f"{name}_share": round(share, 3) for name, share in shares.items()},
        "worst_allocated": round(worst, 4),
        "level": LEVEL,
        "holds": num_estimated > 0 and shares["allocated"] >= LEVEL,
    }


def _side(band: Band, run_bytes: int) -> str:
    """Where the run's figure is: within the interval, below or above it."""
    assert band.low_bytes is not None
    assert band.high_bytes is not None
    if run_bytes < single(band.low_bytes):
        return "below"
    return "above" if run_bytes > single(band.high_bytes) else "within"
