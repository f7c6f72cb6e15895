"""Operations that values size allocate what the real operation does once it has read the true counts."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.virtual.sized import PlantedAnswers
from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.virtual.harness import WarmMachines

MASK = [[True, False, True], [False, False, True]]
NONE = [[False] * 3] * 2
NUMBERS = [3, 1, 3, 0, 7, 1, 1]


@dataclass(frozen=True)
class Case:
    """A call on integers, and the counts that the host reads of the card in it."""

    values: Any
    call: Callable[[torch.Tensor], Any]
    reads: tuple[int, ...]
    dtype: torch.dtype = torch.long


def _put(mask: torch.Tensor) -> torch.Tensor:
    table = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
    table[mask] = torch.arange(3, device=mask.device)
    return table


def _longs(device: torch.device) -> torch.Tensor:
    return torch.empty(0, dtype=torch.long, device=device)


def _unique(x: torch.Tensor) -> Any:
    return torch.unique(x, return_inverse=True, return_counts=True)


CASES = {
    "nonzero": Case(MASK, torch.nonzero, (3,), torch.bool),
    "nonzero of nothing": Case(NONE, torch.nonzero, (0,), torch.bool),
    "nonzero of an empty one": Case([], torch.nonzero, (0,)),
    "nonzero of numbers": Case(NUMBERS, torch.nonzero, (6,)),
    "where": Case(MASK, torch.where, (3,), torch.bool),
    "index": Case(
        MASK, lambda m: torch.ones(2, 3, 4, dtype=torch.long, device=m.device)[m], (3,), torch.bool
    ),
    "index by nothing": Case(NONE, lambda m: torch.ones_like(m)[m], (0,), torch.bool),
    "index by two": Case(
        [True, False, True],
        lambda m: torch.ones(3, 3, dtype=torch.long, device=m.device)[m, m],
        (2, 2),
        torch.bool,
    ),
    "index put": Case(MASK, _put, (3,), torch.bool),
    "masked_select into another": Case(
        MASK, lambda m: torch.masked_select(m, m, out=m.new_empty(0)), (3,), torch.bool
    ),
    "nonzero into another": Case(MASK, lambda m: torch.nonzero(m, out=_longs(m.device)), (3,), torch.bool),
    "masked_select": Case(MASK, lambda m: torch.masked_select(m, m[0]), (4,), torch.bool),
    "unique": Case(NUMBERS, torch.unique, (4,)),
    "unique, all of it": Case(NUMBERS, _unique, (4,)),
    "unique of bytes": Case(NUMBERS, _unique, (4,), torch.uint8),
    "unique of flags": Case(MASK, _unique, (3,), torch.bool),
    "unique of false flags": Case(NONE, _unique, (0,), torch.bool),
    "unique of an empty one": Case([], _unique, ()),
    "unique rows": Case([[1, 2], [0, 3], [1, 2]], lambda x: torch.unique(x, dim=0, return_counts=True), (2,)),
    "unique columns": Case(
        [[1, 1, 2], [0, 0, 3]], lambda x: torch.unique(x, dim=1, return_inverse=True), (2,)
    ),
    "unique_consecutive": Case(NUMBERS, torch.unique_consecutive, (6,)),
    "unique_consecutive, all of it": Case(
        NUMBERS, lambda x: torch.unique_consecutive(x, return_inverse=True, return_counts=True), (6,)
    ),
    "unique_consecutive rows": Case([[1], [1], [2]], lambda x: torch.unique_consecutive(x, dim=0), (2,)),
    "repeat_interleave": Case(NUMBERS, torch.repeat_interleave, (16, 1)),
    "repeat_interleave by nothing": Case([0, 0], torch.repeat_interleave, (0, 1)),
    "repeat_interleave, narrow": Case(NUMBERS, torch.repeat_interleave, (16, 1), torch.int32),
    "repeat_interleave to a size": Case(NUMBERS, lambda x: torch.repeat_interleave(x, output_size=16), ()),
    "bincount": Case(NUMBERS, torch.bincount, (0, 7)),
    "bincount of bytes": Case(NUMBERS, torch.bincount, (7,), torch.uint8),
    "bincount of an empty one": Case([], torch.bincount, ()),
    "bincount with weights": Case(NUMBERS, lambda x: torch.bincount(x, weights=x, minlength=20), (0, 7)),
    "isin among a few": Case(NUMBERS, lambda x: torch.isin(x, x[:2]), ()),
    "isin among many": Case(NUMBERS, lambda x: torch.isin(x, torch.arange(2, 90, device=x.device)), (4, 88)),
    "isin among many, each once": Case(
        [3, 1, 0], lambda x: torch.isin(x, torch.arange(2, 90, device=x.device), assume_unique=True), ()
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_gives_what_the_cpu_gives(virtual_gpu: WarmMachines, name: str) -> None:
    found, expected, num_unknown, inexact = virtual_gpu("a100-80gb", _compare, name)
    assert found == expected
    assert num_unknown == 0
    assert inexact == {}


def _compare(name: str) -> list[Any]:
    case = CASES[name]
    with TrueValues() as values:
        found = case.call(torch.tensor(case.values, dtype=case.dtype, device="cuda"))
        expected = case.call(torch.tensor(case.values, dtype=case.dtype))
        told = [[t.tolist() for t in _tensors(out)] for out in (found, expected)]
        return [*told, values.unknown_reads.total, dict(values.inexact)]


@pytest.mark.parametrize("name", CASES)
def test_it_allocates_what_the_real_operation_does(virtual_gpu: WarmMachines, name: str) -> None:
    """The real one runs without true values, and is told by hand what it reads."""
    followed = virtual_gpu("a100-80gb", _watch, name, True)
    assert followed == virtual_gpu("a100-80gb", _watch, name, False)
    assert followed["is_exact"]


def _watch(name: str, follows_values: bool) -> dict[str, Any]:
    case = CASES[name]
    source = torch.tensor(case.values, dtype=case.dtype)
    if follows_values:
        with TrueValues() as values:
            on_card = source.to("cuda")
            _record_history()
            out = case.call(on_card)
            is_exact = not values.inexact
    else:
        on_card = source.to("cuda")
        _record_history()
        out, is_exact = PlantedAnswers().run(lambda: case.call(on_card), case.reads)
    return {
        "is_exact": is_exact,
        "events": _events(),
        "shapes": [[list(t.shape), list(t.stride()), t.untyped_storage().nbytes()] for t in _tensors(out)],
    }


def _record_history() -> None:
    torch.cuda.memory._record_memory_history(max_entries=10_000, stacks="python", context=None)


def _events() -> list[Any]:
    events = torch.cuda.memory._snapshot()["device_traces"][0]
    return [(event["action"], event["size"]) for event in events]


def _tensors(out: Any) -> list[torch.Tensor]:
    return [out] if isinstance(out, torch.Tensor) else list(out)


def test_positions_come_with_the_temporaries_of_a_real_card(virtual_gpu: WarmMachines) -> None:
    """A count of 4 bytes, cub's two buffers, and 100,000 positions in 2 dimensions, 8 bytes each."""
    allocated, shape, stride = virtual_gpu("a100-80gb", _find_positions)
    assert allocated[0] == 4
    assert allocated[-1] > 1000  # cub's buffer for the selection, by far larger than for this few sums
    assert 100_000 * 2 * 8 in allocated
    assert len(allocated) == 4
    assert (shape, stride) == ([100_000, 2], [1, 100_000])


def _find_positions() -> list[Any]:
    with TrueValues():
        mask = torch.arange(200_000, device="cuda").reshape(400, 500) % 2 == 0
        _record_history()
        positions = mask.nonzero()
    allocated = [size for action, size in _events() if action == "alloc"]
    return [allocated, list(positions.shape), list(positions.stride())]


def test_what_reads_otherwise_than_expected_still_gives_true_values(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _expect_too_much) == [[0, 1, 3, 7], {"aten._unique2.default": 1}]


def _expect_too_much() -> list[Any]:
    from unittest import mock

    with TrueValues() as values, mock.patch("profiler.virtual.values.answers", return_value=[4, 4]):
        return [torch.unique(torch.tensor(NUMBERS, device="cuda")).tolist(), dict(values.inexact)]


def test_only_reads_of_this_thread_are_answered_and_only_while_it_runs(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _read_aside) == [[7, 0, 0], [True, False, False]]


def _read_aside() -> list[Any]:
    import threading

    library = ctypes.CDLL(None)
    memory = ctypes.c_void_p()
    assert library.cudaMalloc(ctypes.byref(memory), ctypes.c_size_t(512)) == 0

    def read() -> int:
        value = ctypes.c_int64(-1)
        assert library.cudaMemcpy(ctypes.byref(value), memory, ctypes.c_size_t(8), 2) == 0
        return value.value

    def read_in_a_thread() -> int:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(read()))
        thread.start()
        thread.join()
        return seen[0]

    planted = PlantedAnswers()
    mine, is_exact = planted.run(read, [7])
    others, is_left = planted.run(read_in_a_thread, [7])
    _, is_exact_without = planted.run(read, [])
    return [[mine, others, read()], [is_exact, is_left, is_exact_without]]


def test_the_backward_of_indexing_by_a_mask_counts_it_again(virtual_gpu: WarmMachines) -> None:
    """A real card makes positions of the mask anew: a count, cub's two buffers, and 500 of 8 bytes."""
    allocated, num_unknown = virtual_gpu("a100-80gb", _go_back_through_a_mask)
    assert 4 in allocated
    assert 500 * 8 in allocated
    assert num_unknown == 0


def _go_back_through_a_mask() -> list[Any]:
    with TrueValues() as values:
        mask = torch.arange(1000, device="cuda") % 2 == 0
        selected = torch.zeros(1000, device="cuda", requires_grad=True)[mask]
        _record_history()
        selected.sum().backward()
        return [[size for action, size in _events() if action == "alloc"], values.unknown_reads.total]


def test_unknown_values_are_taken_as_zeros_and_counted(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _size_by_the_unknown) == {
        "nonzero": [0, 1],
        "unique": [1],
        "bincount": [1],
        "repeat_interleave": [0],
        "isin": [100],
        "index": [0],
        "decisions": 6,
    }


def _size_by_the_unknown() -> dict[str, Any]:
    with TrueValues() as values:
        unknown = torch.randn(100, device="cuda").long()
        many = torch.arange(90, device="cuda")
        calls: dict[str, Callable[[], torch.Tensor]] = {
            "nonzero": lambda: torch.nonzero(unknown),
            "unique": lambda: torch.unique(unknown),
            "bincount": lambda: torch.bincount(unknown),
            "repeat_interleave": lambda: torch.repeat_interleave(unknown),
            "isin": lambda: torch.isin(unknown, many),
            "index": lambda: unknown[unknown > 0],
        }
        sizes = {name: list(call().shape) for name, call in calls.items()}
        return {**sizes, "decisions": values.unknown_reads.decisions.total()}


def test_unknown_weights_do_not_make_a_size_unknown(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _weigh_bins) == [[8], 0, 1]


def _weigh_bins() -> list[Any]:
    with TrueValues() as values:
        numbers = torch.tensor(NUMBERS, device="cuda")
        bins = torch.bincount(numbers, weights=torch.rand(len(NUMBERS), device="cuda"))
        before = values.unknown_reads.total
        bins.tolist()
        return [list(bins.shape), before, values.unknown_reads.total]
