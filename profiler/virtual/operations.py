"""What an operator reads and writes, as far as the table of true values must know it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch._ops import OpOverload

aten = torch.ops.aten

SIZED_BY_VALUES = {
    *(aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_dim.default),
    *(aten.unique_consecutive.default, aten.repeat_interleave.Tensor, aten.bincount.default),
    aten.isin.Tensor_Tensor,  # among many, it looks for unique ones on the way
}
PUT_BY_INDEX = {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
INDEXED = PUT_BY_INDEX | {aten.index.Tensor}

_COPIES = {aten._to_copy.default, aten.copy_.default, aten.clone.default, aten._foreach_copy_.default}
_READS = {aten._local_scalar_dense.default, aten.equal.default, aten._to_copy.default, aten.copy_.default}
# These fill their first argument without a look at what it held.
_FILLS = {
    *("aten::copy_", "aten::fill_", "aten::zero_"),
    *("aten::_foreach_copy_", "aten::_foreach_zero_"),
}
_UNINITIALIZED = {"aten::new_empty", "aten::new_empty_strided"}
_MOVES = {"aten::resize_", "aten::resize_as_", "aten::set_"}


@dataclass(frozen=True, slots=True)
class Operation:
    """What is known of one operator.

    Attributes:
        is_view: its results hold what its arguments do, or nothing yet.
        is_lift: it receives what `torch.tensor` has just made, below any dispatch mode.
        is_random: what it writes is drawn.
        is_copy: it copies floating-point values unchanged.
        is_read: it may bring values to the host.
        is_special: its size, or what it allocates, depends on values.
        may_move: it may give a tensor's storage other memory.
        written: the arguments it writes to: positions, and names of keywords.
        overwritten: of those, the ones it does not read.
    """

    is_view: bool
    is_lift: bool
    is_random: bool
    is_copy: bool
    is_read: bool
    is_special: bool
    may_move: bool
    written: tuple[int | str, ...]
    overwritten: tuple[int | str, ...]


def describe(func: OpOverload) -> Operation:
    """What its schema and the sets above say of an operator."""
    name = func._schema.name
    written = tuple(
        argument.name if argument.kwarg_only else position
        for position, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    outputs = tuple(which for which in written if isinstance(which, str))  # `out=` and its kin
    is_empty = name.startswith("aten::empty") or name in _UNINITIALIZED
    return Operation(
        is_view=not written and (func.is_view or is_empty or name in {"aten::detach", "aten::lift_fresh"}),
        is_lift=func is aten.lift_fresh.default,
        is_random=torch.Tag.nondeterministic_seeded in func.tags,
        is_copy=func in _COPIES,
        is_read=func in _READS,
        is_special=func in SIZED_BY_VALUES or func in INDEXED,
        may_move=name in _MOVES or bool(outputs),
        written=written,
        overwritten=(0,) if name in _FILLS else outputs,
    )


def goes_to_host(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether this call of a reading operator brings values to the host."""
    if func is aten._to_copy.default:
        return args[0].is_cuda and kwargs.get("device") is not None and kwargs["device"].type == "cpu"
    if func is aten.copy_.default:
        return args[1].is_cuda and not args[0].is_cuda
    return True


def fills_a_mask(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether torch turns this assignment into a fill: one mask, and one value that the host has.

    It then neither counts what the mask selects nor makes positions of it.
    """
    if func not in PUT_BY_INDEX or (len(args) > 3 and args[3]):  # accumulate
        return False
    chosen = [index for index in args[1] if index is not None]
    value = args[2]
    is_one_mask = len(chosen) == 1 and chosen[0].dtype in (torch.bool, torch.uint8)
    return is_one_mask and value.numel() == 1 and not value.is_cuda


def arguments_at(
    places: Iterable[int | str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterable[torch.Tensor]:
    """The tensors on a CUDA device among these arguments."""
    for which in places:
        if isinstance(which, str):
            yield from cuda_tensors(kwargs.get(which))
        elif which < len(args):
            yield from cuda_tensors(args[which])


def cuda_tensors(value: Any) -> Iterable[torch.Tensor]:
    """The tensors on a CUDA device in a value, however deep."""
    return (tensor for tensor in tensors_in(value) if tensor.is_cuda)


def tensors_in(value: Any) -> Iterable[torch.Tensor]:
    """The tensors in a value, however deep."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


@cache
def wraps_tensors(kind: type) -> bool:
    """Whether a tensor of this type only holds others, as DTensor does: it has no memory of its own."""
    return kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__  # type: ignore[attr-defined]
