"""What an operator reads and writes, as far as the table of true values must know it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.draws import DRAWS
from profiler.virtual.torch_private import HIGHER_ORDER_OPERATOR, bare, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from profiler.virtual.torch_private import OpOverload

aten = torch.ops.aten
_HigherOrderOperator = HIGHER_ORDER_OPERATOR.find()

MASKS = frozenset({torch.bool, torch.uint8})
"""Types of tensors that index as masks do."""
SIZED_BY_VALUES = {
    *(aten.nonzero.default, aten._unique2.default, aten.unique_dim.default),
    *(aten.unique_consecutive.default, aten.repeat_interleave.Tensor, aten.bincount.default),
    aten.isin.Tensor_Tensor,  # among many, it looks for unique ones on the way
}
PUT_BY_INDEX = {aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
FINITE = {
    **dict.fromkeys((aten.linalg_eig.default, aten.linalg_eig.out, aten._linalg_eigvals.default), (True,)),
    # torch 2.4 asks on the host whether all is valid, then whether all is zero; later ones ask on the card.
    **dict.fromkeys((aten.multinomial.default, aten.multinomial.out), (True, False)),
}
"""Operators that look within for NaN and infinity in what they are given, and refuse it; what to answer."""
SELECTIONS = {aten.masked_select.default, aten.masked_select.out}
INDEXED = PUT_BY_INDEX | SELECTIONS | {aten.index.Tensor, aten.nonzero.out}
"""Operators that make positions of masks, among others."""
COLLECTIVES = {"c10d", "_c10d_functional"}
"""The namespaces of `torch.distributed`'s operators."""

_COPIES = {aten._to_copy.default, aten.copy_.default, aten.clone.default, aten._foreach_copy_.default}
COMPARISONS = {aten.equal.default, aten.allclose.default}
"""Operators that give a flag of the host's."""
_READS = COMPARISONS | {aten._local_scalar_dense.default, aten.copy_.default}
# These fill their first argument without a look at what it held.
_FILLS = {
    *("aten::copy_", "aten::fill_", "aten::zero_"),
    *("aten::_foreach_copy_", "aten::_foreach_zero_"),
    *("aten::random_", "aten::bernoulli_", "aten::geometric_"),
}
_SPARSE = {
    *("aten::_coalesce", "aten::_to_sparse", "aten::_to_sparse_csr", "aten::_to_sparse_csc"),
    *("aten::_to_sparse_bsr", "aten::_to_sparse_bsc"),
}
_UNINITIALIZED = {"aten::new_empty", "aten::new_empty_strided"}
_MOVES = {"aten::resize_", "aten::resize_as_"}
_SHAPED = {
    *("aten::zeros_like", "aten::ones_like", "aten::full_like"),
    *("aten::new_zeros", "aten::new_ones", "aten::new_full"),
}
# Costly on the host, and nobody asks for the truth of what they give.
_PRODUCTS = {
    *("aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::addmm", "aten::addmv", "aten::baddbmm"),
    *("aten::linear", "aten::matmul", "aten::addbmm", "aten::_int_mm", "aten::_scaled_mm"),
}
_COSTLY = ("aten::linalg_", "aten::_linalg_", "aten::_fft_", "aten::_scaled_dot_product", "aten::conv")
# Their schemas do not tell that they write running statistics.
_WRITES_UNTOLD: dict[str, tuple[int | str, ...]] = {
    **dict.fromkeys(("aten::native_batch_norm", "aten::cudnn_batch_norm"), (3, 4)),
    **dict.fromkeys(("aten::batch_norm_gather_stats", "aten::batch_norm_gather_stats_with_counts"), (3, 4)),
    "aten::batch_norm_update_stats": (1, 2),
}


class Treatment(Enum):
    """How an operator is run.

    Attributes:
        VIEW: its results hold what its arguments do, or nothing yet.
        PLAIN: it makes new values of its arguments.
        CAST: it copies a tensor, perhaps to another type or device.
        READ: it may bring values to the host.
        SIZED: values decide the size of its result.
        INDEXING: by tensors, of which some may be masks.
        MOVING: it may give a tensor's storage other memory.
        SHOWING: it has a tensor show another storage.
        SPARSE: it counts the values of a sparse tensor.
        COLLECTIVE: it works on a group of processes.
        LIFT: it receives what `torch.tensor` has just made, below any dispatch mode.
        FINITE: it refuses NaN and infinity.
        OTHER: it writes, copies or draws.
    """

    VIEW = auto()
    PLAIN = auto()
    CAST = auto()
    READ = auto()
    SIZED = auto()
    INDEXING = auto()
    MOVING = auto()
    SHOWING = auto()
    SPARSE = auto()
    COLLECTIVE = auto()
    LIFT = auto()
    FINITE = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is known of one operator.

    Attributes:
        func: the operator.
        run: calls it, with less on the way than itself.
        treatment: how it is run.
        name: its own, without the namespace `aten`.
        is_view: whether that is as a view.
        is_random: what it writes is drawn.
        is_draw: of integers, which the host may draw as well.
        is_copy: it copies floating-point values unchanged.
        is_shaped: it takes a tensor for its shape and type alone.
        is_costly: its floating-point results are left unknown, as the host would take long.
        written: the arguments it writes to: positions, and names of keywords.
        overwritten: of those, the ones it does not read.
    """

    func: OpOverload
    run: Callable[..., Any]
    treatment: Treatment
    name: str = ""
    is_view: bool = False
    is_random: bool = False
    is_draw: bool = False
    is_copy: bool = False
    is_shaped: bool = False
    is_costly: bool = False
    written: tuple[int | str, ...] = ()
    overwritten: tuple[int | str, ...] = ()


def describe(func: OpOverload) -> Operation:
    """What its schema and the sets above say of an operator."""
    if isinstance(func, _HigherOrderOperator):  # such as flex_attention: what is within it is not seen
        return Operation(func=func, run=func, treatment=Treatment.VIEW, is_view=True)
    schema = schema_of(func)
    written = tuple(
        argument.name if argument.kwarg_only else position
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ) or _WRITES_UNTOLD.get(schema.name, ())
    outputs = tuple(which for which in written if isinstance(which, str))  # `out=` and its kin
    treatment = _treatment(func, schema.name, written, has_outputs=bool(outputs))
    return Operation(
        func=func,
        run=bare(func),
        name=schema.name.removeprefix("aten::"),
        treatment=treatment,
        is_view=treatment is Treatment.VIEW,
        is_random=torch.Tag.nondeterministic_seeded in func.tags,
        is_draw=schema.name in DRAWS,
        is_copy=func in _COPIES,
        is_shaped=schema.name in _SHAPED,
        is_costly=schema.name in _PRODUCTS or schema.name.startswith(_COSTLY),
        written=written,
        overwritten=(0,) if schema.name in _FILLS else outputs,
    )


def _treatment(
    func: OpOverload, name: str, written: tuple[int | str, ...], *, has_outputs: bool
) -> Treatment:
    is_empty = name.startswith("aten::empty") or name in _UNINITIALIZED
    treatments = {
        Treatment.LIFT: func is aten.lift_fresh.default,
        Treatment.VIEW: not written and (func.is_view or is_empty or name == "aten::detach"),
        Treatment.CAST: func is aten._to_copy.default,
        Treatment.READ: func in _READS,
        Treatment.SIZED: func in SIZED_BY_VALUES,
        Treatment.INDEXING: func in INDEXED,
        Treatment.SPARSE: name in _SPARSE,
        Treatment.COLLECTIVE: func.namespace in COLLECTIVES,
        Treatment.FINITE: func in FINITE,
        Treatment.MOVING: has_outputs or name in _MOVES,
        Treatment.SHOWING: name == "aten::set_",
        Treatment.OTHER: bool(written) or func in _COPIES or name in DRAWS,
    }
    return next((treatment for treatment, is_it in treatments.items() if is_it), Treatment.PLAIN)


def goes_to_host(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether this call of a reading operator brings values to the host."""
    if func is aten._to_copy.default:
        device = kwargs.get("device")
        return device is not None and device.type == "cpu" and args[0].is_cuda
    if func is aten.copy_.default:
        return args[1].is_cuda and not args[0].is_cuda
    return True


def masks_in(func: OpOverload, args: tuple[Any, ...]) -> list[torch.Tensor]:
    """The masks of which this call of an operator of `INDEXED` makes positions."""
    if func is aten.nonzero.out:
        return [args[0]]
    if func in SELECTIONS:
        return [torch.broadcast_tensors(args[0], args[1])[1]]
    if _fills_a_mask(func, args):
        return []
    return [index for index in args[1] if index is not None and index.dtype in MASKS]


def _fills_a_mask(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether torch turns this assignment into a fill: one mask, and one value that the host has.

    It then neither counts what the mask selects nor makes positions of it.
    """
    if func not in PUT_BY_INDEX or (len(args) > 3 and args[3]):  # accumulate
        return False
    chosen = [index for index in args[1] if index is not None]
    value = args[2]
    is_one_mask = len(chosen) == 1 and chosen[0].dtype in MASKS
    return is_one_mask and value.numel() == 1 and not value.is_cuda


def arguments_at(
    places: Iterable[int | str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[torch.Tensor]:
    """The tensors on a CUDA device among these arguments."""
    found: list[torch.Tensor] = []
    for which in places:
        if isinstance(which, str):
            found += cuda_tensors(kwargs.get(which))
        elif which < len(args):
            found += cuda_tensors(args[which])
    return found


def cuda_tensors(value: Any) -> list[torch.Tensor]:
    """The tensors on a CUDA device in a value, however deep; sparse ones have no memory of their own."""
    return [tensor for tensor in tensors_in(value) if tensor.is_cuda and tensor.layout is torch.strided]


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in a value, however deep."""
    if isinstance(value, torch.Tensor):
        return [value]
    found: list[torch.Tensor] = []
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return found
    for item in value:
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, list | tuple | dict):
            found += tensors_in(item)
    return found


@cache
def wraps_tensors(kind: type) -> bool:
    """Whether a tensor of this type only holds others, as DTensor does: it has no memory of its own."""
    return kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__  # type: ignore[attr-defined]
