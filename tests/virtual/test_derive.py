"""Formulas derived from runs of real torch on a virtual card say what any other run takes, to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from profiler.derive.make import make_derived
from profiler.derive.observe import Observation, Observer, Point
from profiler.derive.runs import PointRuns
from profiler.estimate.card import card_of
from profiler.estimate.derived import estimate_derived
from profiler.estimate.estimate import Estimate
from profiler.formula.derived.shelf import cache_dir
from profiler.units import GIB, TIB
from tests.virtual.jobs import a_job, a_model, run_warm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from profiler.estimate.apply import Band
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import PhaseReading
    from profiler.records.trace import Trace
    from tests.virtual.harness import WarmMachines

LONGEST = 512
OTHERS = ((1, 333), (3, 100), (3, 202))
"""Batches that no derivation looks at."""
JOBS: dict[str, dict[str, Any]] = {
    "full": {"gradient_checkpointing": False},
    "lora": {"method": "lora"},
    "qlora": {"method": "qlora"},
    "accumulation": {"method": "lora", "accumulation": 2},
    "closing": {"method": "lora", "eval_batches": 3, "eval_batch_size": 2, "save": True},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def job(directory: Path, **changes: Any) -> JobSpec:
    return a_job(model=a_model(directory / "model"), **({"gpu_memory_bytes": 512 * GIB} | changes))


@pytest.mark.parametrize("changes", JOBS.values(), ids=JOBS)
def test_a_derived_formula_says_what_a_run_takes_to_the_byte(
    virtual_gpu: WarmMachines, tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = job(tmp_path, **changes)
    seen: list[Point] = []
    made = make_derived(spec, longest=LONGEST, on_run=seen.append)
    assert made.path.parent == cache_dir()
    assert [check.allocated_difference_bytes for check in made.file.checks] == [0] * len(made.file.checks)
    assert [check.reserved_difference_bytes for check in made.file.checks] == [0] * len(made.file.checks)
    num_sure = 0
    for point in (Point(*one) for one in OTHERS):
        assert point not in seen
        one = spec.model_copy(update=point._asdict())
        said = estimate_derived(one, card=card_of(one))
        ran = run_warm(virtual_gpu, one).peak
        assert isinstance(said, Estimate)
        assert ran is not None
        assert said.corrected.reserved is not None
        assert is_within(said.corrected.allocated, ran.allocated_bytes)
        assert is_within(said.corrected.reserved, ran.reserved_bytes)
        if not said.notes:
            assert said.corrected.allocated.value_bytes == ran.allocated_bytes
            assert said.corrected.reserved.value_bytes == ran.reserved_bytes
            num_sure += 1
    assert num_sure >= 2


def test_a_formula_is_derived_of_a_classifier_with_its_own_positions(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    encoder = {
        "model_type": "bert",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 256,
    }
    (tmp_path / "config.json").write_text(json.dumps(encoder))
    spec = a_job(model=str(tmp_path), task="sequence-classification", num_labels=3, seq_len=100)
    made = make_derived(spec)
    assert max(one.seq_len for one in made.file.seen) == 256
    said = estimate_derived(spec, card=card_of(spec))
    ran = run_warm(virtual_gpu, spec).peak
    assert isinstance(said, Estimate)
    assert ran is not None
    assert said.corrected.allocated.value_bytes == ran.allocated_bytes


def is_within(band: Band, size_bytes: int) -> bool:
    low_bytes, high_bytes = band.low_bytes, band.high_bytes
    assert isinstance(low_bytes, int)
    assert isinstance(high_bytes, int)
    return low_bytes <= size_bytes <= high_bytes


def test_a_batch_of_a_forked_worker_leaves_what_a_fresh_run_leaves(
    virtual_gpu: WarmMachines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: dict[Point, Sequence[PhaseReading]] = {}

    observe = Observer.observe

    def look(observer: Observer, point: Point, trace: Trace, readings: Sequence[PhaseReading]) -> Observation:
        left[point] = readings
        return observe(observer, point, trace, readings)

    monkeypatch.setattr(Observer, "observe", look)
    spec = job(tmp_path, method="lora", gpu_memory_bytes=16 * TIB, steps=2)
    points = [Point(1, 100), Point(3, 65)]
    with PointRuns(spec) as made:
        found = made.observe(points, num_steps=2)
    assert made.num_done == 2
    for point in points:
        ran = run_warm(virtual_gpu, spec.model_copy(update=point._asdict()))
        assert figures(left[point]) == figures(ran.phases)
        one = found[point]
        assert isinstance(one, Observation)
        assert ran.peak is not None
        assert (one.allocated_bytes, one.reserved_bytes) == (
            ran.peak.allocated_bytes,
            ran.peak.reserved_bytes,
        )


def figures(phases: Sequence[PhaseReading]) -> list[dict[str, object]]:
    """All but times, and what of the card is used: the worker and its other batches are on it, too."""
    left_out = {"elapsed_s", "device_used_peak_bytes", "process_used_peak_bytes"}
    return [phase.model_dump(exclude=left_out) for phase in phases]
