from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from profiler.bench import derived
from profiler.bench.__main__ import show_cases
from profiler.bench.cases import (
    TimedCommand,
    bench_table,
    compare_commands,
    compare_sweep,
    compare_training,
)
from profiler.bench.intervals import compare_intervals, random_jobs
from profiler.bench.study import compare_study, fill_study, find_ms
from profiler.bench.timing import Timing, pss_bytes, time_python, tree_of
from profiler.errors import PeakvramError
from profiler.estimate.card import card_of
from profiler.estimate.estimate import Estimate, estimate_job
from profiler.estimate.factors import default_factors
from profiler.formula.catalogue import find_formula
from profiler.jobs.expansion import expand
from profiler.jobs.sweep import Sweep
from profiler.records.schema import Outcome, OutcomeStatus, PhaseName
from profiler.records.store import RecordStore
from profiler.units import GIB, MIB
from tests.builders import a_job, a_phase, a_record, a_report

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.jobs.job import JobSpec

BASE = TimedCommand(name="base", arguments=())
BOUND = TimedCommand(name="bound", arguments=(), max_ratio=2.5, max_host_bytes=GIB)


def took(elapsed_s: float, *, process_bytes: int = 0, tree_bytes: int = 0) -> Timing:
    return Timing(elapsed_s=elapsed_s, process_bytes=process_bytes, tree_bytes=tree_bytes, output="")


def test_a_case_is_told_by_medians_and_the_most_memory_of_any_turn() -> None:
    turns = [
        [took(2.0), took(4.0, process_bytes=MIB)],
        [took(1.0), took(90.0, process_bytes=GIB)],
        [took(9.0), took(5.0, process_bytes=MIB)],
    ]
    base, bound = compare_commands([BASE, BOUND], turns)
    assert (base["elapsed_s"], base["ratio"], base["holds"]) == (2.0, 1.0, True)
    assert (bound["elapsed_s"], bound["ratio"], bound["host_bytes"]) == (5.0, 2.5, GIB)
    assert bound["holds"]


@pytest.mark.parametrize(("elapsed_s", "process_bytes"), [(2.51, 0), (1.0, GIB + 1)])
def test_a_case_beyond_either_bound_is_too_much(elapsed_s: float, process_bytes: int) -> None:
    rows = compare_commands([BASE, BOUND], [[took(1.0), took(elapsed_s, process_bytes=process_bytes)]])
    assert [row["holds"] for row in rows] == [True, False]
    assert [line.endswith("  too much") for line in show_cases(rows).splitlines()] == [False, False, True]


@pytest.mark.parametrize(("followed_s", "holds"), [(15.0, True), (15.1, False)])
def test_following_is_told_for_the_command_and_for_its_training(followed_s: float, holds: bool) -> None:
    result = compare_training([(10.0, 4.0), (8.0, 4.0), (12.0, 4.0)], [(followed_s, 8.0)] * 3)
    assert (result["command_alone_s"], result["training_ratio"]) == (10.0, 2.0)
    assert result["holds"] is holds


@pytest.mark.parametrize(
    ("elapsed_s", "tree_bytes", "holds"), [(20.0, GIB, True), (20.1, GIB, False), (20.0, 4 * GIB, False)]
)
def test_a_sweep_is_told_against_one_process_a_job(elapsed_s: float, tree_bytes: int, holds: bool) -> None:
    result = compare_sweep(took(elapsed_s, tree_bytes=tree_bytes), num_jobs=100, cold_s=2.0)
    assert result["ratio"] == round(200 / elapsed_s, 1)
    assert result["holds"] is holds


@pytest.mark.parametrize(
    ("process_bytes", "missing_ms", "holds"), [(GIB, 1.0, True), (GIB + 1, 1.0, False), (GIB, 1.01, False)]
)
def test_a_large_study_is_told_by_its_largest_command_and_its_slower_lookup(
    process_bytes: int, missing_ms: float, *, holds: bool
) -> None:
    timings = {"plan": took(1.0, process_bytes=MIB), "report": took(2.0, process_bytes=process_bytes)}
    result = compare_study(timings, num_records=7, lookup_ms=(0.1, missing_ms))
    assert (result["num_records"], result["report_bytes"]) == (7, process_bytes)
    assert result["holds"] is holds


def test_a_study_to_time_has_a_record_for_every_job(tmp_path: Path) -> None:
    jobs = [a_job(seq_len=seq_len) for seq_len in (128, 256, 512)]
    fill_study(tmp_path / "study", a_record(), jobs)
    stored = RecordStore(tmp_path / "study").scan()
    assert {record.record.spec for record in stored.records} == set(jobs)
    assert not stored.problems
    assert all(taken_ms > 0 for taken_ms in find_ms(tmp_path / "study", a_record(), jobs))


def test_random_jobs_are_the_same_for_a_seed_and_all_are_jobs_or_told_not_to_be() -> None:
    jobs = random_jobs(50, seed=1)
    assert jobs == random_jobs(50, seed=1) != random_jobs(50, seed=2)
    expansion = expand(Sweep(name="random", base={"gpu": "l4"}, include=tuple(jobs)))
    assert len(expansion.jobs) > 30
    assert len({job.model for job in expansion.jobs}) > 5


def test_intervals_are_told_by_the_runs_within_them() -> None:
    spec = a_job(seq_len=1024)
    card, formula = card_of(spec), find_formula("peakvram")
    estimated = estimate_job(spec, formula=formula, factors=default_factors(), card=card)
    assert isinstance(estimated, Estimate)
    within_bytes = int(str(estimated.corrected.allocated.value_bytes))
    records = [
        a_record(spec=spec, report=a_report((a_phase(PhaseName.BACKWARD, 1, end=0, peak=peak_bytes),)))
        for peak_bytes in (within_bytes, within_bytes // 2, 2 * within_bytes)
    ]
    result = compare_intervals([*records, a_record(spec=spec, outcome=Outcome(status=OutcomeStatus.OOM))])
    assert (result["num_jobs"], result["num_run"], result["num_estimated"]) == (4, 3, 3)
    assert (result["allocated_below"], result["allocated_above"]) == (1, 1)
    assert (result["allocated_share"], result["worst_allocated"], result["holds"]) == (0.333, 1.0, False)


def test_a_process_is_timed_with_its_memory_and_its_output() -> None:
    code = f"import time; data = b'x' * {128 * MIB}; time.sleep(1); print(data[:1].decode())"
    timing = time_python(("-c", code), is_tree_watched=True)
    assert timing.elapsed_s > 1
    assert timing.process_bytes > 128 * MIB
    assert timing.tree_bytes > 128 * MIB
    assert timing.output == "x\n"


def test_the_memory_of_children_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in tree_of(os.getpid())
        assert pss_bytes(child.pid) > 0
    assert tree_of(child.pid) == []
    assert pss_bytes(child.pid) == 0


def test_a_process_that_fails_says_what_it_wrote() -> None:
    with pytest.raises(PeakvramError, match="no such luck"):
        time_python(("-c", "raise SystemExit('no such luck')"))


def test_the_estimates_of_a_table_are_counted() -> None:
    affinity = os.sched_getaffinity(0)
    try:
        result = bench_table(
            repeat=1, table={"model": ["llama-3.1-8b"], "seq_len": [512, 1024], "gpu": ["l4"]}
        )
    finally:
        os.sched_setaffinity(0, affinity)
    assert result["num_jobs"] == 2


def test_the_command_times_estimates() -> None:
    command = [sys.executable, "-m", "profiler.bench", "--estimate", "--repeat", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    result = json.loads(done.stdout)
    assert [case["case"] for case in result["cases"]] == ["import torch", "estimate, Llama-3.1-8B"]
    assert result["table"]["num_jobs"] == 5 * 3 * 2 * 2 * 8 * 64
    holds = all(part["holds"] for part in (*result["cases"], result["table"]))
    assert done.returncode == (0 if holds else 1)


def a_comparison(ran: int, said: int, *, is_exact: bool, high: int | None = None) -> dict[str, Any]:
    figure = {"ran": ran, "said": said, "low": said, "high": high or said}
    figures = {"allocated": figure, "reserved": figure}
    return {"batch_size": 1, "seq_len": 64, "is_exact": is_exact, "figures": figures}


def test_a_bench_of_derived_formulas_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[JobSpec] = []

    def outcome(spec: JobSpec, **_: object) -> dict[str, Any]:
        done.append(spec)
        if len(done) == 3:
            raise KeyboardInterrupt
        compared = [
            a_comparison(10**6, 10**6, is_exact=True),
            a_comparison(100, 99, is_exact=False, high=101),
        ]
        job = spec.model_dump(mode="json")
        return {"job": job, "family": "llama", "refusal": None, "num_runs": 40, "compared": compared}

    monkeypatch.setattr(derived, "_outcome", outcome)
    path = tmp_path / "outcomes.jsonl"
    first = derived.bench_derived(num_kinds=4, path=path)
    with path.open("a") as file:
        file.write('{"job": {"torn')
    again = derived.bench_derived(num_kinds=4, path=path)
    assert len(done) == 5  # two, the one that was interrupted, that one again, and the fourth
    assert len({spec.model_dump_json() for spec in done}) == 4
    counts: Any = first["all"]
    assert (counts["jobs"], counts["runs"], counts["allocated equal"], counts["held"]) == (2, 4, 2, 4)
    assert (counts["said to be exact"], counts["exact but not equal"]) == (2, 0)
    assert again["all"]["jobs"] == again["llama"]["jobs"] == 4  # type: ignore[index]
    assert not again["holds"]


def test_a_formula_that_says_it_is_exact_and_is_not_fails_the_bench() -> None:
    comparison = a_comparison(10**9, 10**9 - 1, is_exact=True)
    counts = derived.counts_of([{"compared": [comparison], "refusal": None}])  # type: ignore[typeddict-item]
    assert counts["exact but not equal"] == 1
    assert counts["allocated within 0.01 %"] == 1
