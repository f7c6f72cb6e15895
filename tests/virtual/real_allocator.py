"""torch's own allocator and the replayed one side by side, with requests and frees at random.

    python -m tests.virtual.real_allocator 1000000

runs so many events on virtual cards, with settings drawn at random, and says where the two differ first. It
runs with any torch that runs on a virtual card.
"""

from __future__ import annotations

import random
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from profiler.allocator.caching_allocator import CachingAllocator
from profiler.allocator.device_memory import AllocationFailedError
from profiler.allocator.rules import rules_of
from profiler.allocator.settings import read_settings
from profiler.units import GIB, MIB

if TYPE_CHECKING:
    from profiler.allocator.blocks import MemoryBlock

NUM_STREAMS = 3
FREE_BYTES = GIB
CARD: dict[str, Any] = {"total_bytes": 24 * GIB, "context_bytes": 24 * GIB - FREE_BYTES}
"""Little is free, so that memory runs out; the addresses of an expandable segment go by the total."""
_BORDERS = (1, 512, MIB, 2 * MIB, 10 * MIB, 20 * MIB, 32 * MIB)
_FIGURES = ("allocated_bytes", "reserved_bytes", "active_bytes", "requested_bytes")


def draw_conf(rng: random.Random) -> str:
    """Settings at random, such as change what is reserved of `FREE_BYTES`."""
    known = rules_of(torch.__version__).settings
    is_expandable = rng.random() < 0.3
    segment_mb = rng.choice([20, 20, 24, 32, 64])
    values = {
        "expandable_segments": str(is_expandable),
        "large_segment_size_mb": str(segment_mb),
        "max_split_size_mb": str(rng.randint(segment_mb, 90)),
        "max_non_split_rounding_mb": str(rng.randint(segment_mb, 200)),
        "roundup_power2_divisions": rng.choice(
            ["1", "2", "4", "8", "[1:2,4:4,64:8,>:1]", "[>:4]", "[256:1,512:2,>:8]"]
        ),
        "garbage_collection_threshold": f"{rng.uniform(0.3, 0.95):.2f}",
        "per_process_memory_fraction": f"{rng.uniform(0.02, 0.045):.4f}",
    }
    chosen = {key: value for key, value in values.items() if key in known and rng.random() < 0.4}
    if is_expandable and not rules_of(torch.__version__).expands_with_limits:
        chosen = {"expandable_segments": "True"}
    return ",".join(f"{key}:{value}" for key, value in chosen.items())


@dataclass
class Twins:
    """The two allocators, and what is live in both.

    Attributes:
        conf: the settings that both run under.
        live: a tensor of torch's and the block of the replayed one for each request.
        pool: the private pool that requests go to; 0 for none.
        pool_uses: of the private pools.
    """

    conf: str
    live: list[tuple[torch.Tensor, MemoryBlock]] = field(default_factory=list)
    pool: int = 0
    pool_uses: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rules = rules_of(torch.__version__)
        free_bytes, total_bytes = torch.cuda.mem_get_info()
        self.replayed = CachingAllocator(
            read_settings(self.conf, rules), capacity_bytes=free_bytes, total_bytes=total_bytes
        )
        self._streams = [
            torch.cuda.default_stream(),
            *(torch.cuda.Stream() for _ in range(NUM_STREAMS - 1)),
        ]
        self._keeps_cache = rules.pools_keep_cache

    def request(self, size_bytes: int, stream: int) -> None:
        """Asks both; both must give, or both not."""
        if not (self.pool and self._keeps_cache):
            self.replayed.process_events()
        tensor = block = None
        with suppress(torch.OutOfMemoryError), torch.cuda.stream(self._streams[stream]):
            tensor = torch.empty(size_bytes, dtype=torch.uint8, device="cuda")
        with suppress(AllocationFailedError):
            block = self.replayed.malloc(size_bytes, stream, self.pool)
        assert (tensor is None) == (block is None), "one had memory, and the other had none"
        if tensor is not None and block is not None:
            self.live.append((tensor, block))

    def free(self, place: int, *, other_stream: int | None = None) -> None:
        """Frees one that is live, which another stream may use."""
        tensor, block = self.live.pop(place)
        if other_stream is not None:
            tensor.record_stream(self._streams[other_stream])
            self.replayed.record_stream(block, other_stream)
        del tensor
        self.replayed.free(block)

    def empty_cache(self) -> None:
        """Gives back what is cached."""
        torch.cuda.empty_cache()
        self.replayed.empty_cache()

    def begin_or_end_pool(self, pool: int) -> None:
        """Begins a private pool that has uses or is new, or ends the one that is begun."""
        if self.pool:
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), (0, 1000 + self.pool))
            self.replayed.end_pool(self.pool)
            self.pool = 0
        elif self.pool_uses.get(pool) != 0:
            torch._C._cuda_beginAllocateCurrentThreadToPool(torch.cuda.current_device(), (0, 1000 + pool))
            self.replayed.begin_pool(pool)
            self.pool = pool
            self.pool_uses[pool] = self.pool_uses.get(pool, 0) + 1

    def release_pool(self, pool: int) -> None:
        """One use of a private pool less."""
        if self.pool or not self.pool_uses.get(pool):
            return
        torch._C._cuda_releasePool(torch.cuda.current_device(), (0, 1000 + pool))
        self.replayed.release_pool(pool)
        self.pool_uses[pool] -= 1

    def figures(self) -> tuple[list[int], list[int]]:
        """torch's figures, and ours: bytes, peaks, segments, retries, failures."""
        stats = torch.cuda.memory_stats_as_nested_dict()
        ours = self.replayed
        return (
            [
                *(stats[name]["all"]["current"] for name in _FIGURES),
                stats["allocated_bytes"]["all"]["peak"],
                stats["reserved_bytes"]["all"]["peak"],
                stats["active_bytes"]["all"]["peak"],
                stats["segment"]["all"]["current"],
                stats["num_alloc_retries"],
                stats["num_ooms"],
            ],
            [
                *(getattr(ours, name) for name in _FIGURES),
                ours.allocated_peak_bytes,
                ours.reserved_peak_bytes,
                ours.active_peak_bytes,
                ours.num_segments,
                ours.num_alloc_retries,
                ours.num_ooms,
            ],
        )


def draw_size(rng: random.Random) -> int:
    """A size: at a border of the rules, or anywhere from bytes to a third of what is free."""
    kind = rng.random()
    if kind < 0.3:
        return max(rng.choice(_BORDERS) + rng.choice([-512, -1, 0, 1, 512]), 1)
    if kind < 0.5:
        return rng.randint(1, 2 * MIB)
    if kind < 0.7:
        return rng.randint(1, 24 * MIB)
    if kind < 0.85:
        return rng.randint(1, 48) * 2 * MIB
    return rng.randint(1, FREE_BYTES // rng.choice([3, 5, 10, 30]))


def run_at_random(conf: str, seed: int, num_events: int, with_pools: bool) -> dict[str, Any]:
    """In a process on a card: both allocators do the same; says after which event they differ, if any.

    Returns:
        `difference`: empty, or what differs; `retries` and `failures`: how often memory was short.
    """
    rng = random.Random(seed)
    torch.cuda.init()
    with_pools = with_pools and hasattr(torch._C, "_cuda_endAllocateToPool")  # since 2.9
    twins = Twins(conf)
    share = 0.5
    for index in range(num_events):
        if rng.random() < 0.003:
            share = rng.choice([0.3, 0.45, 0.5, 0.55, 0.7])  # of requests: fuller and emptier by turns
        try:
            step = _step(twins, rng, share, with_pools)
        except AssertionError as error:
            return {"difference": f"{conf!r}, seed {seed}, event {index}: {error}"}
        real, ours = twins.figures()
        if real != ours:
            return {"difference": f"{conf!r}, seed {seed}, event {index} ({step}): torch {real}, ours {ours}"}
    replayed = twins.replayed
    return {"difference": "", "retries": replayed.num_alloc_retries, "failures": replayed.num_ooms}


def _step(twins: Twins, rng: random.Random, share: float, with_pools: bool) -> str:
    kind = rng.random()
    if kind < 0.004:
        twins.empty_cache()
        return "empty_cache"
    if with_pools and kind < 0.015:
        twins.begin_or_end_pool(rng.randint(1, 6))
        return "pool"
    if with_pools and kind < 0.02:
        twins.release_pool(rng.randint(1, 6))
        return "release_pool"
    if rng.random() < share or not twins.live:
        size_bytes, stream = draw_size(rng), rng.randrange(NUM_STREAMS) if rng.random() < 0.4 else 0
        twins.request(size_bytes, stream)
        return f"request of {size_bytes} on stream {stream}"
    place = rng.randrange(len(twins.live)) if rng.random() < 0.7 else -1
    other = rng.randrange(NUM_STREAMS) if rng.random() < 0.15 else None
    twins.free(place, other_stream=other)
    return f"free, used by stream {other}"


def main(num_events: int, *, per_run: int = 20_000) -> int:
    """Runs events on warm machines until there were enough; 1 where the allocators differ."""
    from tests.virtual.harness import WarmMachines

    with tempfile.TemporaryDirectory() as directory, WarmMachines(Path(directory)) as machines:
        num_done = num_runs = retries = failures = 0
        while num_done < num_events:
            conf = draw_conf(random.Random(num_runs))
            num_now = min(per_run, num_events - num_done)
            arguments = (conf, num_runs, num_now, num_runs % 3 == 2)
            said = machines("rtx-4090", run_at_random, *arguments, alloc_conf=conf, **CARD)
            if said["difference"]:
                print(said["difference"])
                return 1
            num_done, num_runs = num_done + num_now, num_runs + 1
            retries, failures = retries + said["retries"], failures + said["failures"]
            print(f"{num_done:,} equal, {num_runs} settings, {retries:,} retries, {failures:,} failures")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1].replace("_", ""))))
