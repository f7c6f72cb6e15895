"""Integers drawn at random on the virtual card are known, and drawing them disturbs no generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from tests.virtual.harness import FreshMachines, WarmMachines

DRAWS = {
    "randint": lambda: torch.randint(10, (4, 8), device="cuda"),
    "randint between": lambda: torch.randint(-5, 5, (4, 8), device="cuda", dtype=torch.int32),
    "randint with a generator": lambda: torch.randint(
        10, (32,), device="cuda", generator=torch.Generator("cuda").manual_seed(1)
    ),
    "randint_like": lambda: torch.randint_like(torch.zeros(32, device="cuda"), 10, dtype=torch.long),
    "randint_like between": lambda: torch.randint_like(_empty(), 2, 7),
    "randperm": lambda: torch.randperm(10, device="cuda"),
    "random_": lambda: _empty().random_(),
    "random_ up to": lambda: _empty().random_(7),
    "random_ between": lambda: _empty().random_(2, 7),
    "bernoulli_": lambda: _empty(torch.bool).bernoulli_(0.5),
    "bernoulli_ of a tensor": lambda: _empty(torch.uint8).bernoulli_(torch.tensor(0.5, device="cuda")),
    "geometric_": lambda: _empty().geometric_(0.5),
    "through a transpose": lambda: _empty().reshape(8, 4).t().random_(7),
}
BOUNDS = {
    "randint": (0, 9),
    "randint between": (-5, 4),
    "randint with a generator": (0, 9),
    "randint_like": (0, 9),
    "randint_like between": (2, 6),
    "randperm": (0, 9),
    "random_": (0, 2**63 - 1),
    "random_ up to": (0, 6),
    "random_ between": (2, 6),
    "bernoulli_": (0, 1),
    "bernoulli_ of a tensor": (0, 1),
    "geometric_": (1, 1000),
    "through a transpose": (0, 6),
}


def _empty(dtype: torch.dtype = torch.long) -> torch.Tensor:
    return torch.empty(32, dtype=dtype, device="cuda")


@pytest.mark.parametrize("name", DRAWS)
def test_drawn_integers_are_known_and_within_bounds(virtual_gpu: WarmMachines, name: str) -> None:
    drawn, num_unknown = virtual_gpu("rtx-4090", _draw, name)
    low, high = BOUNDS[name]
    assert low <= min(drawn)
    assert max(drawn) <= high
    assert len(set(drawn)) > 1
    assert num_unknown == 0


def _draw(name: str) -> list[Any]:
    with TrueValues() as values:
        return [DRAWS[name]().flatten().tolist(), values.unknown_reads.total]


def test_a_permutation_holds_every_number_once(virtual_gpu: WarmMachines) -> None:
    permutation = virtual_gpu("rtx-4090", _permute)
    assert sorted(permutation) == list(range(100))
    assert permutation != list(range(100))


def _permute() -> list[int]:
    with TrueValues():
        return torch.randperm(100, device="cuda").tolist()


@pytest.mark.parametrize("name", DRAWS)
def test_drawing_on_the_host_moves_no_generator_and_allocates_nothing(
    virtual_gpu: WarmMachines, name: str
) -> None:
    assert virtual_gpu("rtx-4090", _watch_a_draw, name, True) == virtual_gpu(
        "rtx-4090", _watch_a_draw, name, False
    )


def _watch_a_draw(name: str, follows_values: bool) -> list[Any]:
    from contextlib import nullcontext

    torch.manual_seed(3)
    torch.zeros(1, device="cuda")
    torch.cuda.memory._record_memory_history(max_entries=10_000, stacks="python", context=None)
    with TrueValues() if follows_values else nullcontext():
        DRAWS[name]()
    events = torch.cuda.memory._snapshot()["device_traces"][0]
    card = torch.cuda.default_generators[0]
    return [
        [(event["action"], event["size"]) for event in events],
        torch.rand(3).tolist(),
        [card.initial_seed(), card.get_offset()],
    ]


def test_the_same_seed_draws_the_same_numbers_in_another_process(fresh_gpu: FreshMachines) -> None:
    first, again, other = (fresh_gpu("rtx-4090", _draw_seeded, seed) for seed in (1, 1, 2))
    assert first == again
    assert first[0] != other[0]
    assert first[0] == first[2], "the seed was set anew"
    assert first[0] != first[1]


def _draw_seeded(seed: int) -> list[list[int]]:
    drawn = []
    with TrueValues():
        for is_new in (True, False, True):
            if is_new:
                torch.manual_seed(seed)
            drawn.append(torch.randint(1000, (8,), device="cuda").tolist())
    return drawn


def test_a_checkpoint_draws_the_same_again(virtual_gpu: WarmMachines) -> None:
    first, again = virtual_gpu("rtx-4090", _recompute_a_draw)
    assert first == again


def _recompute_a_draw() -> list[list[int]]:
    from torch.utils.checkpoint import checkpoint

    drawn: list[list[int]] = []

    def block(x: torch.Tensor) -> torch.Tensor:
        drawn.append(torch.randint(1000, (8,), device=x.device).tolist())
        return x.sin().sum()

    with TrueValues():
        torch.randint(9, (3,), device="cuda")
        x = torch.zeros(4, device="cuda", requires_grad=True)
        checkpoint(block, x, use_reentrant=False).backward()
    return drawn


def test_a_draw_within_unknown_bounds_or_into_a_part_of_the_unknown_is_unknown(
    virtual_gpu: WarmMachines,
) -> None:
    assert virtual_gpu("rtx-4090", _draw_the_unknown) == [[0] * 4, [0] * 4, 2]


def _draw_the_unknown() -> list[Any]:
    with TrueValues() as values:
        by_scores = torch.empty(4, dtype=torch.bool, device="cuda").bernoulli_(torch.rand(4, device="cuda"))
        in_part = torch.empty(4, dtype=torch.long, device="cuda")
        in_part[:2].random_(5)
        return [by_scores.tolist(), in_part.tolist(), values.unknown_reads.total]


def test_a_draw_into_a_part_of_the_known_leaves_the_rest(virtual_gpu: WarmMachines) -> None:
    row, rest, num_unknown = virtual_gpu("rtx-4090", _draw_a_row)
    assert all(10 <= value < 20 for value in row)
    assert rest == [[1] * 8]
    assert num_unknown == 0


def _draw_a_row() -> list[Any]:
    with TrueValues() as values:
        table = torch.ones(2, 8, dtype=torch.long, device="cuda")
        table[0].random_(10, 20)
        return [table[0].tolist(), table[1:].tolist(), values.unknown_reads.total]


def test_a_choice_by_scores_and_dropout_are_unknown(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _choose_by_scores) == 2


def _choose_by_scores() -> int:
    with TrueValues() as values:
        torch.multinomial(torch.ones(5, device="cuda"), 2).tolist()
        torch.nn.functional.dropout(torch.ones(5, device="cuda")).gt(0).tolist()
        return values.unknown_reads.total
