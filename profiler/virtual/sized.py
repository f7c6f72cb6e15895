"""Operations whose size is decided by values: what the host reads while a real card runs them.

`nonzero`, `unique` and their like count on the card, read the count, and size their result by it. On the way
they take temporary buffers. So the real operation runs, and what it reads of the card is answered with the
true counts, which the CPU has found. Which reads those are follows from torch's code; it is the same in torch
2.4 and 2.14.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.operations import aten, cuda_tensors
from profiler.virtual.torch_private import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from profiler.virtual.torch_private import OpOverload


def deciding(func: OpOverload, args: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors on the card whose values decide the size: not the weights of what is counted."""
    return cuda_tensors(args[0] if func is aten.bincount.default else args)


def result_on_cpu(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What an operator of `SIZED_BY_VALUES` gives on a card, computed on the CPU.

    A card sorts unique values always, and leaves out inverses and counts that are not asked for.

    Args:
        func: the operator.
        args: its arguments, on the host.
        kwargs: the same, by name.
    """
    if func is aten._unique2.default and len(args) > 1:
        return func(args[0], True, *args[2:], **kwargs)
    result = func(*args, **kwargs)
    if func not in (aten.unique_dim.default, aten.unique_consecutive.default):
        return result
    named = _by_name(func, args, kwargs)
    is_asked = (True, named.get("return_inverse"), named.get("return_counts"))
    return tuple(t if keep else t.new_empty(0) for t, keep in zip(result, is_asked, strict=True))


def answers(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> list[int]:
    """What the host reads in one call of an operator that is sized by values, in order.

    Args:
        func: of `SIZED_BY_VALUES`.
        args: its arguments, on the host.
        kwargs: the same, by name.
        result: what it gives, on the host.
    """
    if func is aten.nonzero.default:
        return [len(result)]
    if args[0].numel() == 0:
        return []
    return _ANSWERS[func](_by_name(func, args, kwargs), result)


def count_of(mask: torch.Tensor) -> int:
    """What the host reads as a mask, seen on the host, is made into positions."""
    return int(mask.count_nonzero())


def _by_name(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = (argument.name for argument in schema_of(func).arguments)
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def _of_unique(named: Mapping[str, Any], result: Any) -> list[int]:
    return [_num_unique(named["self"], result[0])]


def _of_unique_along(named: Mapping[str, Any], result: Any) -> list[int]:
    dim = named.get("dim")
    return [result[0].shape[0 if dim is None else dim]]


def _of_repeats(named: Mapping[str, Any], result: Any) -> list[int]:
    """How many there will be, and whether no repeat is negative."""
    return [] if named.get("output_size") is not None else [len(result), True]


def _of_bins(named: Mapping[str, Any], _result: Any) -> list[int]:
    least, most = map(int, named["self"].aminmax())
    return [most] if named["self"].dtype is torch.uint8 else [least, most]


def _of_search(named: Mapping[str, Any], _result: Any) -> list[int]:
    """Among a few it compares with each; among many it sorts the unique ones of both."""
    elements, among = named["elements"], named["test_elements"]
    if named.get("assume_unique") or among.numel() < 10 * elements.numel() ** 0.145:
        return []
    return [_num_unique(tensor, tensor.unique()) for tensor in (elements, among)]


def _num_unique(source: torch.Tensor, values: torch.Tensor) -> int:
    if source.dtype is torch.bool:  # torch counts the true ones and needs no sorting
        return count_of(source)
    return len(values)


_ANSWERS: dict[OpOverload, Callable[[Mapping[str, Any], Any], list[int]]] = {
    aten._unique2.default: _of_unique,
    aten.unique_dim.default: _of_unique_along,
    aten.unique_consecutive.default: _of_unique_along,
    aten.repeat_interleave.Tensor: _of_repeats,
    aten.bincount.default: _of_bins,
    aten.isin.Tensor_Tensor: _of_search,
}


class PlantedAnswers:
    """Runs operations while reads of the card by this thread are answered with what is given."""

    def __init__(self) -> None:
        """Finds the stand-in's functions."""
        library = ctypes.CDLL(None)
        self._plant = library.vgpu_plant
        self._plant.argtypes = (ctypes.POINTER(ctypes.c_int64), ctypes.c_size_t)
        self._plant.restype = None
        self._unplant = library.vgpu_unplant

    def run(self, function: Callable[[], Any], answers: Sequence[int]) -> tuple[Any, bool]:
        """What the function returns, and whether it read just these answers."""
        planted = (ctypes.c_int64 * len(answers))(*answers)
        self._plant(planted, len(answers))
        try:
            out = function()
        finally:
            is_exact = self._unplant() == 0
        return out, is_exact
