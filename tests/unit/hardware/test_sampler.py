"""The background sampler, against a card whose memory is written while it samples."""

from __future__ import annotations

from profiler.units import GIB, MIB
from profiler.virtual.state import Quirk
from tests.unit.hardware.machines import Play, a_device

START = """
import time
from profiler.hardware.nvml import open_nvml
from profiler.hardware.sampler import UsedMemorySampler

with open_nvml() as nvml:
    gpu = nvml.list_cards().cards[0].gpus[0]
state = live_state()
card, own = state.devices[0], state.processes[0]

def use(gib):
    card.used_bytes = int(gib * (1 << 30))

def hold(gib):
    own.pid, own.contexts, own.held_bytes[0] = os.getpid(), 1, int(gib * (1 << 30))

def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the sampler did not get there"
        time.sleep(0.001)
"""


def test_a_peak_between_two_calls_is_seen_by_the_thread(play: Play) -> None:
    source = """
    with UsedMemorySampler(gpu) as sampler:
        use(7)
        wait_for(lambda: sampler.peak_bytes == 7 << 30)
        use(2)
        seen = sampler.num_samples
        wait_for(lambda: sampler.num_samples > seen + 3)
    show([sampler.baseline_bytes, sampler.peak_bytes])
    """
    assert play(a_device(other_bytes=GIB)).run(START, source) == [GIB, 7 * GIB]


def test_a_reset_starts_from_what_is_used_then(play: Play) -> None:
    source = """
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        use(7); sampler.sample()
        use(3); sampler.reset_peak()
        after_reset = [sampler.peak_bytes, sampler.num_samples]
        use(5); sampler.sample()
        use(4); sampler.sample()
    show([after_reset, sampler.peak_bytes, sampler.num_samples])
    """
    assert play().run(START, source) == [[3 * GIB, 1], 5 * GIB, 3]


def test_every_phase_has_a_sample_even_if_the_thread_never_came(play: Play) -> None:
    source = """
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        peaks = []
        for gib in (2, 6, 1):
            sampler.reset_peak()
            use(gib)
            sampler.sample()
            peaks.append(sampler.peak_bytes >> 30)
    show(peaks)
    """
    assert play().run(START, source) == [2, 6, 6]


def test_our_own_memory_has_a_peak_of_its_own(play: Play) -> None:
    source = """
    hold(2)
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        hold(6); use(20); sampler.sample()
        hold(1); sampler.sample()
    show([sampler.process_peak_bytes, sampler.peak_bytes])
    """
    peaks = play(a_device(other_bytes=GIB, other_pid=77)).run(START, source)
    assert peaks == [6 * GIB + 400 * MIB, 20 * GIB]


def test_where_no_process_memory_is_told_the_card_less_its_baseline_stands_in(play: Play) -> None:
    source = """
    use(1)
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        hold(6); use(7); sampler.sample()
    show([sampler.process_peak_bytes, sampler.peak_bytes - sampler.baseline_bytes])
    """
    for quirk in (Quirk.NO_PROCESS_MEMORY, Quirk.HOST_PIDS):
        assert play(quirks=quirk).run(START, source) == [None, 6 * GIB]


def test_a_slice_is_sampled_by_its_own_memory(play: Play) -> None:
    source = """
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        use(4); sampler.sample()
    show([gpu.uuid[:4], sampler.peak_bytes, sampler.num_errors])
    """
    assert play(quirks=Quirk.MIG).run(START, source) == ["MIG-", 4 * GIB, 0]


def test_passing_errors_are_counted_and_the_next_sample_is_taken(play: Play) -> None:
    source = """
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        state.num_devices = 0  # every call about the card now fails
        sampler.sample(); sampler.sample()
        failed = [sampler.num_errors, sampler.num_samples, sampler.is_lost, sampler.problem]
        state.num_devices = 1
        use(3); sampler.sample()
    show([failed, sampler.num_errors, sampler.num_samples, sampler.peak_bytes])
    """
    failed, *after = play().run(START, source)
    assert failed[:3] == [2, 1, False]
    assert "Invalid Argument" in failed[3]
    assert after == [2, 2, 3 * GIB]


def test_a_lost_card_ends_the_sampling_and_is_reported(play: Play) -> None:
    source = """
    with UsedMemorySampler(gpu) as sampler:
        use(3); sampler.sample()
        state.quirks = 1 << 3
        wait_for(lambda: sampler.is_lost)
        errors = sampler.num_errors
        sampler.sample()
    show([sampler.peak_bytes, sampler.num_errors == errors == 1, sampler.problem])
    """
    peak_bytes, is_counted_once, problem = play().run(START, source)
    assert peak_bytes == 3 * GIB
    assert is_counted_once
    assert "lost" in problem


def test_gaps_between_samples_are_told(play: Play) -> None:
    source = """
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        time.sleep(0.2)
        sampler.sample()
        slow = sampler.longest_gap_s
        sampler.reset_peak()
        sampler.sample()
    with UsedMemorySampler(gpu) as busy:
        wait_for(lambda: busy.num_samples >= 20)
    show([slow, sampler.longest_gap_s, busy.longest_gap_s])
    """
    slow_s, quick_s, busy_s = play().run(START, source)
    assert 0.2 <= slow_s < 10
    assert quick_s < 0.1
    assert 0.010 <= busy_s < 10


def test_sampling_for_long_does_not_grow(play: Play) -> None:
    source = """
    import gc, tracemalloc
    hold(1)
    with UsedMemorySampler(gpu, interval_s=60) as sampler:
        for _ in range(50):
            sampler.sample()
        gc.collect(); tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(2000):
            sampler.sample()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    show([sampler.num_samples, after - before])
    """
    num_samples, growth_bytes = play().run(START, source)
    assert num_samples == 2051
    assert growth_bytes < 16_384


def test_nothing_is_left_running_after_an_error_in_the_block(play: Play) -> None:
    source = """
    import threading
    try:
        with UsedMemorySampler(gpu) as sampler:
            raise RuntimeError("the job failed")
    except RuntimeError:
        pass
    show([thread.name for thread in threading.enumerate()])
    """
    assert play().run(START, source) == ["MainThread"]


def test_a_card_that_is_gone_when_sampling_starts_is_an_error_with_a_hint(play: Play) -> None:
    source = """
    state.quirks = 1 << 3
    show(attempt(UsedMemorySampler(gpu).__enter__))
    """
    assert play().run(START, source)["error"] == "GpuLostError"
