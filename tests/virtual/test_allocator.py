"""The replayed allocator against torch's own on virtual cards: at random, and on what was recorded."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.allocator.caching_allocator import CachingAllocator
from profiler.allocator.replay import Replay, replay
from profiler.allocator.rules import rules_of
from profiler.allocator.settings import read_settings
from profiler.allocator.traces import read_device_trace, recorded_history, recorded_trace, to_events
from profiler.jobs.job import JobSpec
from profiler.records.history import read_history
from profiler.records.schema import PhaseName, PhasePlace
from profiler.units import MIB
from tests.versions import needs
from tests.virtual.jobs import ForkedWorker, a_job, a_model
from tests.virtual.real_allocator import CARD, NUM_STREAMS, Twins, draw_conf, run_at_random

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines

CONFS = [
    "",
    "expandable_segments:True",
    "max_split_size_mb:40",
    "garbage_collection_threshold:0.5,per_process_memory_fraction:0.006",
]
SEEDS = range(1000, 1006)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_events_give_torchs_figures_after_each(virtual_gpu: WarmMachines, seed: int) -> None:
    conf = draw_conf(random.Random(seed))
    said = virtual_gpu("rtx-4090", run_at_random, conf, seed, 500, seed % 2 == 0, alloc_conf=conf, **CARD)
    assert said["difference"] == ""


@pytest.mark.parametrize("conf", CONFS)
def test_any_short_program_gives_torchs_figures_after_each_event(
    virtual_gpu: WarmMachines, conf: str
) -> None:
    full = CARD | {"context_bytes": CARD["total_bytes"] - 200 * MIB}
    failures = virtual_gpu("rtx-4090", _run_programs, conf, alloc_conf=conf, **full)
    assert failures > 0  # some programs want more than there is


def _run_programs(conf: str) -> int:
    sizes = st.one_of(
        st.integers(1, 2 * MIB),
        st.integers(8 * MIB, 24 * MIB),
        st.integers(1, 400 * MIB),
        st.integers(1, 60).map(lambda pages: pages * 2 * MIB),
    )
    streams = st.integers(0, NUM_STREAMS - 1)
    steps = st.one_of(
        st.tuples(st.just("request"), sizes, streams),
        st.tuples(st.just("free"), st.integers(0, 30), st.none() | streams),
        st.tuples(st.just("empty"), st.just(0), st.none()),
    )
    torch.cuda.init()
    failures = 0

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(program=st.lists(steps, max_size=25))
    def run(program: list[tuple[str, int, int | None]]) -> None:
        nonlocal failures
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.reset_accumulated_memory_stats()
        twins = Twins(conf)
        for step, number, stream in program:
            if step == "request":
                twins.request(number, stream or 0)
            elif step == "empty":
                twins.empty_cache()
            elif twins.live:
                twins.free(number % len(twins.live), other_stream=stream)
            real, ours = twins.figures()
            assert real == ours, step
        failures += twins.replayed.num_ooms
        twins.live.clear()

    run()
    return failures


@pytest.mark.parametrize("conf", CONFS[:3])
def test_a_snapshot_replayed_has_its_peaks_and_its_last_segments(
    virtual_gpu: WarmMachines, conf: str
) -> None:
    said = virtual_gpu("rtx-4090", _record_snapshot, alloc_conf=conf)
    done = replay(to_events(read_device_trace(said["trace"])), settings=_settings(conf))
    assert [done.allocated_peak_bytes, done.reserved_peak_bytes] == said["peaks"]
    assert sorted(
        [
            segment.size_bytes,
            segment.allocated_bytes,
            len(segment.blocks),
            segment.stream > 0,
            segment.is_small,
        ]
        for segment in done.segments
    ) == sorted(said["segments"])


def _record_snapshot() -> dict[str, Any]:
    """A few steps of training, some of it on another stream, with `empty_cache` in between."""
    torch.cuda.memory._record_memory_history(stacks="python", context=None)
    model = torch.nn.Sequential(*[torch.nn.Linear(1536, 1536) for _ in range(4)]).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    other = torch.cuda.Stream()
    for rows in (64, 4096, 700, 5000):
        batch = torch.randn(rows, 1536, device="cuda")
        with torch.cuda.stream(other):
            copy = batch * 2
        batch.record_stream(other)
        copy.record_stream(torch.cuda.current_stream())
        model(batch + copy).sum().backward()
        del batch, copy
        optimizer.step()
        optimizer.zero_grad()
        if rows == 4096:
            torch.cuda.empty_cache()
    snapshot = torch.cuda.memory._snapshot()
    return {
        "trace": snapshot["device_traces"][0],
        "peaks": [torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()],
        "segments": [
            [
                segment["total_size"],
                segment["allocated_size"],
                len(segment["blocks"]),
                segment["stream"] != 0,
                segment["segment_type"] == "small",
            ]
            for segment in snapshot["segments"]
        ],
    }


def _settings(conf: str) -> Any:
    return read_settings(conf, rules_of(torch.__version__))


def test_a_retry_in_a_trace_is_told_from_an_empty_cache_by_what_the_card_had(
    virtual_gpu: WarmMachines,
) -> None:
    said = virtual_gpu("rtx-4090", _record_retry, **CARD)
    recorded = read_device_trace(said["trace"])
    here = replay(to_events(recorded, capacity_bytes=said["free"]), capacity_bytes=said["free"])
    assert here.num_alloc_retries == said["retries"] == 1
    assert here.reserved_peak_bytes == said["reserved_peak"]
    larger = replay(to_events(recorded, capacity_bytes=said["free"]))
    assert (larger.num_alloc_retries, larger.reserved_bytes) == (0, 1100 * MIB)
    assert replay(to_events(recorded)).reserved_bytes == 600 * MIB  # without it, it is an `empty_cache`


def _record_retry() -> dict[str, Any]:
    torch.cuda.init()
    free_bytes = torch.cuda.mem_get_info()[0]
    torch.cuda.memory._record_memory_history(context=None)
    tensor = torch.empty(500 * MIB, dtype=torch.uint8, device="cuda")
    del tensor
    kept = torch.empty(600 * MIB, dtype=torch.uint8, device="cuda")
    return {
        "trace": torch.cuda.memory._snapshot()["device_traces"][0],
        "free": free_bytes,
        "retries": torch.cuda.memory_stats()["num_alloc_retries"],
        "reserved_peak": torch.cuda.max_memory_reserved(),
        "kept": kept.nbytes,
    }


def test_a_recorded_history_replayed_has_the_peaks_of_the_run(
    virtual_gpu: WarmMachines, tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"
    peaks = virtual_gpu("rtx-4090", _record_history, str(path))
    done = replay(to_events(recorded_history(read_history(path))), settings=_settings(""))
    assert [done.allocated_peak_bytes, done.reserved_peak_bytes] == peaks


def _record_history(path: str) -> list[int]:
    from profiler.measure.history import HistoryRecorder

    torch.cuda.init()
    recorder = HistoryRecorder(Path(path))
    recorder.end_phase(PhasePlace(PhaseName.CONTEXT))
    model = torch.nn.Linear(3000, 3000, device="cuda")
    recorder.end_phase(PhasePlace(PhaseName.LOAD))
    for step in range(3):
        model(torch.randn(1000 * (step + 1), 3000, device="cuda")).sum().backward()
        torch.cuda.empty_cache()
        recorder.end_phase(PhasePlace(PhaseName.BACKWARD, step))
    return [torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()]


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": False},
        {"method": "qlora", "gradient_checkpointing": {"reentrant": True}},
        {"precision": "bf16-amp", "alloc_conf": "expandable_segments:True"},
    ],
)
def test_the_trace_of_an_explained_job_replayed_has_the_peaks_of_its_record(
    virtual_gpu: WarmMachines, tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = a_job(model=a_model(tmp_path / "model"), **changes)
    peaks, replayed = virtual_gpu("a100-80gb", _replay_explained, spec.model_dump_json(), count=0)
    assert replayed == peaks


def _replay_explained(text: str) -> tuple[list[int], list[int]]:
    from profiler.execute import local
    from profiler.explain import run
    from profiler.records.trace import read_trace

    spec = JobSpec.model_validate_json(text)
    traces: list[Replay] = []

    def read(path: Path) -> Any:
        trace = read_trace(path)
        traces.append(replay(to_events(recorded_trace(trace)), settings=_settings(spec.alloc_conf)))
        return trace

    parts = SimpleNamespace(Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL)
    with mock.patch.object(local, "subprocess", parts), mock.patch.object(run, "read_trace", read):
        peak = run.run_explained(spec).record.peak
    assert peak is not None
    done = traces[0]
    return (
        [peak.allocated_bytes, peak.reserved_bytes],
        [done.allocated_peak_bytes, done.reserved_peak_bytes],
    )


@needs(torch="2.10")  # `no_split`
def test_a_pool_that_does_not_split_gives_whole_segments(virtual_gpu: WarmMachines) -> None:
    allocator = CachingAllocator()
    allocator.use_pool(1, is_split=False)
    for size_bytes in UNSPLIT:
        allocator.malloc(size_bytes, pool=1)
    seen = virtual_gpu("rtx-4090", _allocate_unsplit)
    assert seen == [allocator.allocated_bytes, allocator.reserved_bytes] == [44 * MIB, 44 * MIB]


UNSPLIT = (3 * MIB, 3 * MIB, 512, 512)


def _allocate_unsplit() -> list[int]:
    pool = torch.cuda.MemPool(no_split=True)
    with torch.cuda.use_mem_pool(pool):
        tensors = [torch.empty(size_bytes, dtype=torch.uint8, device="cuda") for size_bytes in UNSPLIT]
    assert len(tensors) == len(UNSPLIT)
    return [torch.cuda.memory_allocated(), torch.cuda.memory_reserved()]
