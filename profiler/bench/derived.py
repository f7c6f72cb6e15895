"""How often a derived formula gives what a run does, to the byte: random jobs, at points drawn at random.

What comes of each job is kept in a file, a line of JSON a job: a bench that was interrupted goes on there.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from profiler.derive.make import make_derived, positions_of
from profiler.derive.observe import Observation, Point
from profiler.derive.runs import PointRuns
from profiler.errors import PeakvramError
from profiler.estimate.card import card_of
from profiler.estimate.derived import estimate_with
from profiler.estimate.estimate import single
from profiler.formula.configs import config_of
from profiler.formula.derived.evaluate import DerivedFormula
from profiler.jobs.load import job_from
from profiler.jobs.presets import list_presets
from profiler.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiler.estimate.apply import Band
    from profiler.jobs.job import JobSpec

GPU: Final = "rtx-4090"
GPU_MEMORY: Final = "16TiB"
NUM_KINDS: Final = 500
NUM_POINTS: Final = 10
MAX_PARAMETERS: Final = 9_500_000_000
"""Larger models take the time of many jobs each."""
MAX_TOKENS: Final = 65_536
MOST_POSITIONS: Final = 16_384
_SMALLEST = 64
_FIGURES = ("allocated", "reserved")


class _Figure(TypedDict):
    """What a run took, and what was said of it, in bytes."""

    ran: int
    said: int
    low: int
    high: int


class _Compared(TypedDict):
    """A run, and whether the formula said that it is exact there."""

    batch_size: int
    seq_len: int
    is_exact: bool
    figures: dict[str, _Figure]


class _Outcome(TypedDict):
    """What came of a job: why it was refused, or how its formula did."""

    job: dict[str, Any]
    family: str
    refusal: str | None
    num_runs: int
    compared: list[_Compared]


def bench_derived(
    *,
    seed: int = 0,
    num_kinds: int = NUM_KINDS,
    most_parameters: int = MAX_PARAMETERS,
    path: Path | None = None,
) -> dict[str, object]:
    """Derives random jobs and compares each formula with runs at random batches.

    Progress goes to stderr; Ctrl-C ends it with what there is.

    Args:
        seed: of the jobs and of the batches.
        num_kinds: how many jobs.
        most_parameters: of a model.
        path: what comes of each job is kept there, and not done again; None for nowhere.

    Returns:
        By method, by family and of all: how many runs; how many peaks of allocated and reserved memory were
        equal to the byte, and lay within 0.01 % and 1 %; how many intervals held them; how often a formula
        said that it is exact, and how often it then was not.
    """
    outcomes = _read(path)
    try:
        for index, spec in enumerate(_random_kinds(num_kinds, seed=seed, most_parameters=most_parameters)):
            job = spec.model_dump(mode="json")
            if all(outcome["job"] != job for outcome in outcomes):
                outcomes.append(_outcome(spec, seed=seed))
                _keep(path, outcomes[-1])
                sys.stderr.write(f"{index + 1} of {num_kinds}: {_told(outcomes[-1])}\n")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what follows is of the jobs before\n")
    return _table(outcomes)


def _read(path: Path | None) -> list[_Outcome]:
    if path is None or not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):  # it was interrupted while it wrote
        path.write_text("".join(lines[:-1]))
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _keep(path: Path | None, outcome: _Outcome) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(outcome) + "\n")


def _random_kinds(num_kinds: int, *, seed: int, most_parameters: int) -> Iterator[JobSpec]:
    """Jobs of every preset that is not too large, by whatever changes what they take but the batch."""
    draw = random.Random(seed)
    models = [model.id for model in list_presets() if model.num_parameters <= most_parameters]
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


def _outcome(spec: JobSpec, *, seed: int) -> _Outcome:
    """Derives one job, and runs it at random points."""
    config = config_of(spec.model, weights=spec.weights, revision=spec.revision) or {}
    outcome = _Outcome(
        job=spec.model_dump(mode="json"),
        family=str(config.get("model_type")),
        refusal=None,
        num_runs=0,
        compared=[],
    )
    try:
        longest = min(positions_of(spec), MOST_POSITIONS)
        with tempfile.TemporaryDirectory() as directory:
            file = make_derived(spec, directory=Path(directory), longest=longest).file
        points = _random_points(spec, longest=longest, seed=seed)
        with PointRuns(spec) as runs:
            found = runs.observe(sorted(points), num_steps=spec.steps)
    except PeakvramError as error:
        outcome["refusal"] = error.message
        return outcome
    formula = DerivedFormula(file)
    outcome["num_runs"] = file.num_runs
    ended = (one for one in found.values() if isinstance(one, Observation))
    outcome["compared"] = [_compared(formula, one, spec) for one in ended]
    return outcome


def _random_points(spec: JobSpec, *, longest: int, seed: int) -> set[Point]:
    """Batches within the model's positions, lengths spread as their logarithms; half of them are round."""
    draw = random.Random(f"{seed} {spec.model_dump_json()}")
    points: set[Point] = set()
    while len(points) < NUM_POINTS:
        batch_size = draw.choice([1, 1, 1, 2, 2, 3, 4, 6, 8, 16])
        length = round(_SMALLEST * (longest / _SMALLEST) ** draw.random())
        if draw.random() < 0.5:
            length = max(_SMALLEST, length // _SMALLEST * _SMALLEST)
        if batch_size * length <= MAX_TOKENS:
            points.add(Point(batch_size, length))
    return points


def _compared(formula: DerivedFormula, one: Observation, spec: JobSpec) -> _Compared:
    at_point = spec.model_copy(update=one.point._asdict())
    estimated = estimate_with(formula, at_point, card=card_of(spec)).corrected
    assert estimated.reserved is not None, "a derived formula has it"
    figures = {
        "allocated": _figure(estimated.allocated, one.allocated_bytes),
        "reserved": _figure(estimated.reserved, one.reserved_bytes),
    }
    is_exact = all(figure["low"] == figure["said"] == figure["high"] for figure in figures.values())
    batch_size, seq_len = one.point
    return _Compared(batch_size=batch_size, seq_len=seq_len, is_exact=is_exact, figures=figures)


def _figure(band: Band, run_bytes: int) -> _Figure:
    assert band.low_bytes is not None, "a derived formula has both ends"
    assert band.high_bytes is not None, "as above"
    said, low, high = (single(end) for end in (band.value_bytes, band.low_bytes, band.high_bytes))
    return _Figure(ran=run_bytes, said=said, low=low, high=high)


def holds(band: Band, run_bytes: int) -> bool:
    """Whether what a run took lies in the interval that was said."""
    figure = _figure(band, run_bytes)
    return figure["low"] <= run_bytes <= figure["high"]


def _told(outcome: _Outcome) -> str:
    """An outcome in a few lines: what was wrong is told point by point."""
    job = outcome["job"]
    name = f"{job['model']} {job['method']['kind']}"
    if outcome["refusal"] is not None:
        return f"{name}: {outcome['refusal']}"
    lines = [f"{name}: derived from {outcome['num_runs']} runs, {len(outcome['compared'])} compared"]
    for one in outcome["compared"]:
        wrong = [
            f"{figure} off by {format_bytes(abs(each['said'] - each['ran']))}"
            for figure, each in one["figures"].items()
            if each["said"] != each["ran"]
        ]
        if wrong:
            said = ", and said to be exact" if one["is_exact"] else ""
            lines.append(f"  {one['batch_size']} x {one['seq_len']}: {'; '.join(wrong)}{said}")
    return "\n".join(lines)


def _table(outcomes: Sequence[_Outcome]) -> dict[str, object]:
    groups: dict[str, list[_Outcome]] = {}
    for outcome in outcomes:
        for group in (outcome["job"]["method"]["kind"], outcome["family"]):
            groups.setdefault(group, []).append(outcome)
    total = counts_of(outcomes)
    num_runs = total["runs"]
    has_held = (
        num_runs > 0
        and total["exact but not equal"] == 0
        and total["allocated equal"] >= 0.95 * num_runs
        and total["allocated within 0.01 %"] >= 0.99 * num_runs
        and total["reserved equal"] >= 0.8 * num_runs
        and total["reserved within 1 %"] >= 0.95 * num_runs
        and total["held"] >= 0.95 * num_runs
    )
    table = {group: dict(counts_of(groups[group])) for group in sorted(groups)}
    return {**table, "all": dict(total), "holds": has_held}


def counts_of(outcomes: Sequence[_Outcome]) -> Counter[str]:
    """How many runs there were of some jobs, and of how many what holds."""
    counts = Counter(jobs=len(outcomes), refused=sum(one["refusal"] is not None for one in outcomes))
    for one in (compared for outcome in outcomes for compared in outcome["compared"]):
        figures = one["figures"]
        off = {name: abs(figures[name]["said"] - figures[name]["ran"]) for name in _FIGURES}
        counts["runs"] += 1
        for name in _FIGURES:
            counts[f"{name} equal"] += off[name] == 0
            counts[f"{name} within 0.01 %"] += off[name] <= figures[name]["ran"] / 10_000
            counts[f"{name} within 1 %"] += off[name] <= figures[name]["ran"] / 100
        counts["said to be exact"] += one["is_exact"]
        counts["exact but not equal"] += one["is_exact"] and any(off.values())
        counts["held"] += all(figure["low"] <= figure["ran"] <= figure["high"] for figure in figures.values())
    return counts
