"""How often a derived formula gives what a run does, to the byte: random jobs, at points drawn at random."""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from profiler.derive.make import make_derived, positions_of
from profiler.derive.observe import Observation, Point
from profiler.derive.runs import PointRuns
from profiler.errors import PeakvramError
from profiler.estimate.card import card_of
from profiler.estimate.derived import estimate_with
from profiler.estimate.estimate import Estimate, single
from profiler.formula.derived.evaluate import DerivedFormula
from profiler.jobs.load import job_from
from profiler.jobs.presets import list_presets
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiler.estimate.apply import Band
    from profiler.jobs.job import JobSpec

GPU: Final = "rtx-4090"
GPU_MEMORY: Final = "16TiB"
NUM_KINDS: Final = 50
NUM_POINTS: Final = 10
MAX_PARAMETERS: Final = 9_500_000_000
"""Larger models take the time of many jobs each."""
MAX_TOKENS: Final = 65_536
MOST_POSITIONS: Final = 16_384
_SMALLEST = 64


def bench_derived(*, seed: int = 0, num_kinds: int = NUM_KINDS) -> dict[str, object]:
    """Derives random jobs and compares each formula with runs at random batches.

    Progress goes to stderr; Ctrl-C ends it with what there is.

    Returns:
        By method, and of all: how many runs, how many peaks of allocated and reserved memory were equal to
        the byte, lay within 0.01 % and 1 %, and how many intervals held them.
    """
    counts: Counter[tuple[str, str]] = Counter()
    try:
        for spec in _random_kinds(num_kinds, seed=seed):
            _compare(spec, counts, seed=seed)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what follows is of the jobs before\n")
    return _table(counts)


def _random_kinds(num_kinds: int, *, seed: int) -> Iterator[JobSpec]:
    """Jobs of every preset that is not too large, by whatever changes what they take but the batch."""
    draw = random.Random(seed)
    models = [model.id for model in list_presets() if model.num_parameters <= MAX_PARAMETERS]
    for _ in range(num_kinds):
        job: dict[str, Any] = {
            "model": draw.choice(models),
            "method": draw.choice(["full", "lora", "qlora", "int8-lora"]),
            "gradient_checkpointing": draw.choice([True, False]),
            "attention_mask": draw.choice(["none", "full", "padded"]),
            "loop": draw.choice(["plain", "trainer"]),
            "optimizer": draw.choice(["adamw_torch", "adamw_torch", "adamw_bnb_8bit", "sgd"]),
            "seq_len": _SMALLEST,
            "gpu": GPU,
            "gpu_memory_bytes": GPU_MEMORY,
        }
        yield job_from(job, source="a random job")


def _compare(spec: JobSpec, counts: Counter[tuple[str, str]], *, seed: int) -> None:
    """Derives one job and counts how its formula does at random points."""
    name = f"{spec.model} {spec.method.kind}"
    try:
        with tempfile.TemporaryDirectory() as directory:
            made = make_derived(spec, directory=Path(directory))
        with PointRuns(spec) as runs:
            found = runs.observe(_random_points(spec, seed=seed), num_steps=spec.steps)
    except PeakvramError as error:
        counts[spec.method.kind, "refused"] += 1
        sys.stderr.write(f"{name}: {error.message}\n")
        return
    formula = DerivedFormula(made.file)
    for point, one in found.items():
        if isinstance(one, Observation):
            estimated = estimate_with(formula, spec.model_copy(update=point._asdict()), card=card_of(spec))
            misses = _count(estimated, one, counts)
            if misses:
                sys.stderr.write(f"{name}, {point}: {misses}\n")
    sys.stderr.write(f"{name}: derived from {made.file.num_runs} runs, {len(found)} compared\n")


def _random_points(spec: JobSpec, *, seed: int) -> set[Point]:
    """Batches within the model's positions, lengths spread as their logarithms; half of them are round."""
    draw = random.Random(f"{seed} {spec.model_dump_json()}")
    longest = min(positions_of(spec), MOST_POSITIONS)
    points: set[Point] = set()
    while len(points) < NUM_POINTS:
        batch_size = draw.choice([1, 1, 1, 2, 2, 3, 4, 6, 8, 16])
        length = round(_SMALLEST * (longest / _SMALLEST) ** draw.random())
        if draw.random() < 0.5:
            length = max(_SMALLEST, length // _SMALLEST * _SMALLEST)
        if batch_size * length <= MAX_TOKENS:
            points.add(Point(batch_size, length))
    return points


def _count(estimated: Estimate, one: Observation, counts: Counter[tuple[str, str]]) -> str:
    """Counts one comparison by its method; what it missed, in words."""
    kind, told = estimated.spec.method.kind, []
    counts[kind, "runs"] += 1
    reserved = estimated.corrected.reserved
    assert reserved is not None, "a derived formula has it"
    for name, band, run_bytes in (
        ("allocated", estimated.corrected.allocated, one.allocated_bytes),
        ("reserved", reserved, one.reserved_bytes),
    ):
        off_bytes = single(band.value_bytes) - run_bytes
        counts[kind, f"{name} equal"] += off_bytes == 0
        counts[kind, f"{name} within 0.01 %"] += abs(off_bytes) <= run_bytes / 10_000
        counts[kind, f"{name} within 1 %"] += abs(off_bytes) <= run_bytes / 100
        counts[kind, f"{name} held"] += _holds(band, run_bytes)
        if off_bytes:
            said = "" if _holds(band, run_bytes) else ", outside its interval"
            side = "more" if off_bytes > 0 else "less"
            told.append(f"{name} {side} by {format_bytes(abs(off_bytes))}{said}")
    return "; ".join(told)


def _holds(band: Band, run_bytes: int) -> bool:
    assert band.low_bytes is not None, "a derived formula has both ends"
    assert band.high_bytes is not None, "as above"
    return single(band.low_bytes) <= run_bytes <= single(band.high_bytes)


def _table(counts: Counter[tuple[str, str]]) -> dict[str, object]:
    kinds = sorted({kind for kind, _ in counts})
    names = sorted({name for _, name in counts})
    table: dict[str, object] = {kind: {name: counts[kind, name] for name in names} for kind in kinds}
    total = {name: sum(counts[kind, name] for kind in kinds) for name in names}
    num_runs = max(1, total.get("runs", 0))
    holds = (
        total.get("allocated equal", 0) >= 0.95 * num_runs
        and total.get("allocated within 0.01 %", 0) >= 0.99 * num_runs
        and total.get("reserved equal", 0) >= 0.8 * num_runs
        and total.get("reserved within 1 %", 0) >= 0.95 * num_runs
        and total.get("allocated held", 0) >= 0.95 * num_runs
    )
    return {**table, "all": total, "holds": holds and total.get("runs", 0) > 0}
