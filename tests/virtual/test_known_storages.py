"""Which storages of the virtual card are known, and until when; memory of any other reads as zeros."""

from __future__ import annotations

import ctypes
import gc
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.units import MIB
from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines


def test_without_true_values_everything_the_device_computes_reads_as_zeros(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _compute_without_values) == [[0, 0, 0], [0.0, 0.0], 0]


def _compute_without_values() -> list[Any]:
    counted = torch.arange(3, device="cuda")
    return [counted.tolist(), torch.ones(2, device="cuda").tolist(), int(counted.sum())]


def test_memory_that_held_known_values_reads_as_zeros_when_it_is_used_again(
    virtual_gpu: WarmMachines,
) -> None:
    seen = virtual_gpu("rtx-4090", _reuse_a_block)
    assert seen["before"] == [7] * 4
    assert seen["same_address"]
    assert seen["after"] == [0] * 4


def _reuse_a_block() -> dict[str, Any]:
    with TrueValues():
        known = torch.full((4,), 7, device="cuda")
        address, before = known.data_ptr(), known.tolist()
        del known
        reused = torch.empty(4, dtype=torch.int64, device="cuda")
        return {"before": before, "same_address": reused.data_ptr() == address, "after": reused.tolist()}


@pytest.mark.parametrize("alloc_conf", ["", "expandable_segments:True"])
def test_memory_that_went_back_to_the_driver_reads_as_zeros_when_it_returns(
    virtual_gpu: WarmMachines, alloc_conf: str
) -> None:
    assert virtual_gpu("rtx-4090", _return_a_segment, alloc_conf=alloc_conf) == [[7, 7], True, [0, 0]]


def _return_a_segment() -> list[Any]:
    with TrueValues():
        known = torch.full((2,), 7, device="cuda")
        before, address = known.tolist(), known.data_ptr()
        del known
        torch.cuda.empty_cache()
        again = torch.empty(2, dtype=torch.int64, device="cuda")
        return [before, again.data_ptr() == address, again.tolist()]


def test_an_unknown_value_written_in_place_makes_all_of_a_tensor_unknown(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _spoil) == [[0, 1, 2, 3], [0, 0, 0, 0], 1]


def _spoil() -> list[Any]:
    with TrueValues() as values:
        table = torch.arange(4, device="cuda")
        before = table.tolist()
        table[1:2].copy_(torch.randn(1, device="cuda").long())
        return [before, table.tolist(), values.unknown_reads.total]


def test_a_spoiled_tensor_is_known_again_once_all_of_it_is_overwritten(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _spoil_and_mend) == [[5, 5], [1, 2], 0]


def _spoil_and_mend() -> list[Any]:
    with TrueValues() as values:
        filled = torch.randn(2, device="cuda").long()
        filled.fill_(5)
        copied = torch.randn(2, device="cuda").long()
        copied.copy_(torch.tensor([1, 2]))
        return [filled.tolist(), copied.tolist(), values.unknown_reads.total]


def test_a_partial_write_of_known_values_does_not_make_an_unknown_tensor_known(
    virtual_gpu: WarmMachines,
) -> None:
    assert virtual_gpu("rtx-4090", _mend_in_part) == [[0, 0, 0, 0], 1]


def _mend_in_part() -> list[Any]:
    with TrueValues() as values:
        unknown = torch.randn(4, device="cuda").long()
        unknown[:2].fill_(5)
        return [unknown.tolist(), values.unknown_reads.total]


def test_integers_too_large_to_keep_are_unknown(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _exceed_the_limit) == [[1, 0], [0, 1]]


def _exceed_the_limit() -> list[Any]:
    with TrueValues() as values:
        kept = torch.ones(16 * MIB, dtype=torch.uint8, device="cuda")
        first = [int(kept[-1]), values.unknown_reads.total]
        dropped = torch.ones(16 * MIB + 1, dtype=torch.uint8, device="cuda")
        return [first, [int(dropped[-1]), values.unknown_reads.total]]


def test_nothing_is_remembered_of_tensors_that_died(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _let_tensors_die) == [51, 0]


def _let_tensors_die() -> list[int]:
    with TrueValues() as values:
        tensors = [torch.arange(n + 1, device="cuda") for n in range(50)]
        view_of_another = torch.ones(3, dtype=torch.bool, device="cuda")[1:]
        known = len(values.known)
        assert view_of_another.all()
        gc.collect()
        tensors.clear()
        del view_of_another
        gc.collect()
        return [known, len(values.known)]


def test_true_values_take_no_memory_of_the_card(virtual_gpu: WarmMachines) -> None:
    without, with_values = virtual_gpu("rtx-4090", _count_allocations)
    assert with_values == without


def _count_allocations() -> list[list[int]]:
    counts = []
    for mode in (nullcontext(), TrueValues()):
        torch.cuda.reset_accumulated_memory_stats()
        torch.cuda.reset_peak_memory_stats()
        with mode:
            positions = torch.arange(100, device="cuda").unsqueeze(0)
            mask = (positions > 5) & (positions < 50)
            lengths = mask.sum(-1).cumsum(0)
            mask.masked_fill_(lengths > 3, value=False)
            bool(mask.all())
        stats = torch.cuda.memory_stats()
        counts.append([stats["allocation.all.allocated"], stats["allocated_bytes.all.allocated"]])
        counts[-1].append(torch.cuda.max_memory_allocated())
        del positions, mask, lengths
    return counts


def test_raw_copies_between_host_and_device_keep_no_garbage(virtual_gpu: WarmMachines) -> None:
    # bitsandbytes copies past torch: what it writes is dropped, and reads as zeros.
    assert virtual_gpu("rtx-4090", _copy_raw) == [[0] * 4, [0] * 4]


def _copy_raw() -> list[list[int]]:
    library = ctypes.CDLL(None)
    pointer = ctypes.c_void_p()
    assert library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(MIB)) == 0
    data, size = (ctypes.c_int * 4)(1, 2, 3, 4), ctypes.c_size_t(16)
    seen = []
    assert library.cudaMemcpy(pointer, data, size, 1) == 0
    assert library.cudaMemcpy(data, pointer, size, 2) == 0
    seen.append(list(data))
    assert library.cudaMemset(pointer, 0xFF, ctypes.c_size_t(MIB)) == 0
    data = (ctypes.c_int * 4)(1, 2, 3, 4)
    assert library.cudaMemcpyAsync(data, pointer, size, 2, None) == 0
    return [*seen, list(data)]


def test_copying_into_a_part_does_not_make_an_unknown_tensor_known(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _copy_into_a_part) == [[0, 0, 0, 0], 1]


def _copy_into_a_part() -> list[Any]:
    with TrueValues() as values:
        unknown = torch.empty(4, dtype=torch.long, device="cuda")
        unknown[:2].copy_(torch.tensor([5, 5]))
        return [unknown.tolist(), values.unknown_reads.total]


@pytest.mark.parametrize("maker", ["empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided"])
def test_memory_that_nothing_was_written_to_is_unknown(virtual_gpu: WarmMachines, maker: str) -> None:
    assert virtual_gpu("rtx-4090", _leave_uninitialised, maker) == [[0] * 64, 1]


def _leave_uninitialised(maker: str) -> list[Any]:
    with TrueValues() as values:
        known = torch.full((64,), 7, device="cuda")
        made = {
            "empty": lambda: torch.empty(64, dtype=torch.long, device="cuda"),
            "empty_like": lambda: torch.empty_like(known),
            "new_empty": lambda: known.new_empty((64,)),
            "new_empty_strided": lambda: known.new_empty_strided((64,), (1,)),
            "empty_strided": lambda: torch.empty_strided((64,), (1,), dtype=torch.long, device="cuda"),
        }[maker]()
        return [made.tolist(), values.unknown_reads.total]


def test_a_storage_that_moves_leaves_nothing_known_behind(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _outgrow_a_storage)
    assert seen["grown"] == list(range(1, 1001))
    assert seen["took_the_old_place"]
    assert seen["there"] == [0, 0, 0, 0]
    assert seen["unknown_reads"] == 1
    assert seen["after_resize"] == [0, 0]


def _outgrow_a_storage() -> dict[str, Any]:
    import warnings

    warnings.simplefilter("ignore")  # torch advises against writing to a tensor of another size
    with TrueValues() as values:
        out = torch.arange(4, device="cuda")
        address = out.data_ptr()
        torch.add(torch.arange(1000, device="cuda"), 1, out=out)
        newcomer = torch.empty(4, dtype=torch.long, device="cuda")
        seen = {
            "grown": out.tolist(),
            "took_the_old_place": newcomer.data_ptr() == address,
            "there": newcomer.tolist(),
            "unknown_reads": values.unknown_reads.total,
        }
        small = torch.arange(2, device="cuda")
        small.resize_(2000)
        return {**seen, "after_resize": small[-2:].tolist()}
