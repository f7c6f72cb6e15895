"""True values of small integer and boolean tensors on a virtual device, computed on the CPU as they happen.

Kernels do nothing there, so device memory reads as zeros. Libraries read masks and positions back to choose
an attention kernel, to size a tensor, to take a branch; a wrong answer changes what is allocated.
`TrueValues` runs under every operation: the real operation first, with its real allocations, and where every
input is known the same operation on the CPU, over the same bytes. What floating-point arithmetic decides
stays unknown, reads as zero, and a read of it by the host is counted, with the line that asked.

A storage is *known* while this table says so, and memory of unknown storages is always zero: a storage that
dies, or that an unknown value is written to, is wiped.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.virtual.state import library_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import FrameType

    from torch._ops import OpOverload

KNOWN_LIMIT_BYTES = 16 << 20
"""Integer and boolean storages up to this size are kept true; csrc/memory.c knows the same figure."""
KEPT_FLOAT_LIMIT_BYTES = 64 << 10
"""Floating-point data copied from the host is kept up to this size, so that constants make the round trip."""

INTEGRAL = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})

aten = torch.ops.aten
_COPIES = {aten._to_copy.default, aten.copy_.default, aten.clone.default, aten._foreach_copy_.default}
_READS = {aten._local_scalar_dense.default, aten.equal.default, aten._to_copy.default, aten.copy_.default}
_SIZED_BY_VALUES = {
    *(aten.nonzero.default, aten.masked_select.default, aten._unique2.default, aten.unique_dim.default),
    *(aten.unique_consecutive.default, aten.repeat_interleave.Tensor, aten.bincount.default),
}
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


@dataclass(slots=True)
class UnknownReads:
    """Reads by the host whose answer the virtual device could not know, by the line that asked."""

    sites: Counter[str] = field(default_factory=Counter)

    def add(self, operation: str) -> None:
        """Count one read, at the nearest line outside torch and the virtual device."""
        self.sites[f"{_caller()} ({operation})"] += 1

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.sites.values())


@dataclass(frozen=True, slots=True)
class _Operation:
    """What the table needs to know of an operator, worked out once."""

    is_view: bool
    is_random: bool
    is_copy: bool
    is_read: bool
    is_special: bool
    written: tuple[int | str, ...]  # which arguments it writes to: positions, and names of keywords


class TrueValues(TorchDispatchMode):
    """While active, small integer and boolean CUDA tensors hold what they would on a real card."""

    def __init__(self) -> None:
        """Starts with nothing known."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.unknown_reads = UnknownReads()
        self._known: dict[int, weakref.finalize[Any, Any]] = {}
        self._operations: dict[OpOverload, _Operation] = {}
        library = ctypes.CDLL(str(library_path()))
        self._open = library.vgpu_open
        self._open.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._wipe = library.vgpu_wipe
        self._wipe.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._wipe.restype = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else every call goes through torch._dynamo, which costs more than the rest

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation, and keep the values it makes if all it reads is known."""
        kwargs = kwargs or {}
        operation = self._operations.get(func) or self._learn(func)
        if operation.is_view:
            return func(*args, **kwargs)
        if operation.is_special or operation.is_read:
            return self._run_reading(func, operation, args, kwargs)
        out = func(*args, **kwargs)
        # The common case, most of a training step: a floating-point result that overwrites nothing known.
        if (
            not operation.written
            and isinstance(out, torch.Tensor)
            and out.dtype not in INTEGRAL
            and not operation.is_copy
        ):
            return out
        self._follow(func, operation, args, kwargs, out)
        return out

    def _learn(self, func: OpOverload) -> _Operation:
        written = tuple(
            argument.name if argument.kwarg_only else position
            for position, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        )
        name = func._schema.name
        operation = _Operation(
            is_view=not written
            and (func.is_view or name.startswith("aten::empty") or name == "aten::detach"),
            is_random=torch.Tag.nondeterministic_seeded in func.tags,
            is_copy=func in _COPIES,
            is_read=func in _READS,
            is_special=func in _SIZED_BY_VALUES or func in _INDEXED,
            written=written,
        )
        self._operations[func] = operation
        return operation

    # ---- operations whose result, or whose size, the host reads ----

    def _run_reading(
        self, func: OpOverload, operation: _Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        sources = [t for t in _tensors((args, kwargs)) if t.is_cuda]
        is_known = all(self._is_known(t) for t in sources)
        if func in _INDEXED:
            args = self._with_integer_indices(args, str(func))
        elif func is aten.masked_select.default and self._is_known(args[1]):
            tensor, mask = torch.broadcast_tensors(args[0], args[1])
            return self.__torch_dispatch__(aten.index.Tensor, (), (tensor, [mask]))
        elif func in _SIZED_BY_VALUES:
            return self._run_sized(func, args, kwargs, is_known=is_known)
        elif sources and not is_known and _goes_to_host(func, args, kwargs):
            self.unknown_reads.add(func._schema.name.removeprefix("aten::"))
        elif func is aten.equal.default and sources:
            return func(*(self._host(t) for t in args))
        out = func(*args, **kwargs)
        self._follow(func, operation, args, kwargs, out)
        return out

    def _run_sized(
        self, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_known: bool
    ) -> Any:
        if not is_known:
            self.unknown_reads.add(func._schema.name.removeprefix("aten::"))
            return func(*args, **kwargs)
        on_host = func(*self._to_host(args), **self._to_host(kwargs))
        device = (
            next(t.device for t in _tensors(args) if t.is_cuda)
            if any(t.is_cuda for t in _tensors(args))
            else None
        )
        moved = tuple(self._to_device(t, device) for t in _tensors(on_host))
        return moved if isinstance(on_host, tuple) else moved[0]

    def _to_device(self, values: torch.Tensor, device: torch.device | None) -> torch.Tensor:
        if device is None:
            return values
        out = torch.empty_like(values, device=device)
        if self._mark(out):
            self._host(out).copy_(values)
        return out

    def _with_integer_indices(self, args: tuple[Any, ...], operation: str) -> tuple[Any, ...]:
        """Boolean masks as the positions they select, as torch's own indexing turns them, but true."""
        indices: list[torch.Tensor | None] = []
        for index in args[1]:
            if index is None or index.dtype not in (torch.bool, torch.uint8) or not index.is_cuda:
                indices.append(index)
            elif self._is_known(index):
                positions = self._host(index).nonzero()
                indices.extend(
                    self._to_device(column.contiguous(), index.device) for column in positions.unbind(1)
                )
            else:
                self.unknown_reads.add(operation.removeprefix("aten."))
                indices.append(index)
        return (args[0], indices, *args[2:])

    # ---- keeping the table ----

    def _follow(
        self,
        func: OpOverload,
        operation: _Operation,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> None:
        """Bring the table up to date after an operation: compute what is computable, forget what is not."""
        if operation.written:
            targets = [
                t for t in _tensors([_argument(a, args, kwargs) for a in operation.written]) if t.is_cuda
            ]
        else:
            targets = [t for t in _tensors(out) if t.is_cuda]
        if not targets:
            return
        if all(_is_kept(t, is_copy=operation.is_copy) for t in targets) and self._can_compute(
            operation, args, kwargs, targets
        ):
            self._compute(func, operation, args, kwargs, targets)
        else:
            for target in targets:
                self._forget(target)

    def _can_compute(
        self,
        operation: _Operation,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        targets: list[torch.Tensor],
    ) -> bool:
        if operation.is_random:
            return False
        overwritten = (
            targets[0] if operation.is_copy and operation.written else None
        )  # copy_ does not read what it fills
        return all(t is overwritten or not t.is_cuda or self._is_known(t) for t in _tensors((args, kwargs)))

    def _compute(
        self,
        func: OpOverload,
        operation: _Operation,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        targets: list[torch.Tensor],
    ) -> None:
        for target in targets:
            if not self._mark(target):
                return
        try:
            results = func(*self._to_host(args), **self._to_host(kwargs))
        except (NotImplementedError, RuntimeError):  # an operation the CPU lacks: its values stay unknown
            for target in targets:
                self._forget(target)
            return
        if not operation.written:  # otherwise it wrote the very bytes
            for target, result in zip(targets, _tensors(results), strict=True):
                self._host(target).copy_(result)

    def _is_known(self, tensor: torch.Tensor) -> bool:
        return not tensor.is_cuda or tensor.numel() == 0 or tensor.untyped_storage().data_ptr() in self._known

    def _mark(self, tensor: torch.Tensor) -> bool:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if size == 0 or address in self._known:
            return True
        if self._open(address, size) != 0:
            return False
        watch = weakref.finalize(storage, self._release, address, size)
        watch.atexit = False
        self._known[address] = watch
        return True

    def _forget(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        watch = self._known.get(storage.data_ptr())
        if watch is not None:
            watch()

    def _release(self, address: int, size: int) -> None:
        del self._known[address]
        self._wipe(address, size)

    # ---- the same bytes, seen by the CPU ----

    def _host(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        count = storage.nbytes() // tensor.element_size()
        if count == 0:
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        buffer = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
        flat = torch.frombuffer(buffer, dtype=tensor.dtype, count=count)
        return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def _to_host(self, value: Any) -> Any:
        match value:
            case torch.Tensor():
                return self._host(value) if value.is_cuda else value
            case torch.device():
                return torch.device("cpu")
            case list() | tuple():
                return type(value)(self._to_host(item) for item in value)
            case dict():
                return {name: self._to_host(item) for name, item in value.items()}
            case _:
                return value


def _is_kept(tensor: torch.Tensor, *, is_copy: bool) -> bool:
    size = tensor.untyped_storage().nbytes()
    if tensor.dtype in INTEGRAL:
        return size <= KNOWN_LIMIT_BYTES
    return is_copy and size <= KEPT_FLOAT_LIMIT_BYTES


def _goes_to_host(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if func is aten._to_copy.default:
        return args[0].is_cuda and kwargs.get("device") is not None and kwargs["device"].type == "cpu"
    if func is aten.copy_.default:
        return args[1].is_cuda and not args[0].is_cuda
    return True


def _argument(which: int | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if isinstance(which, int):
        return args[which] if which < len(args) else None
    return kwargs.get(which)


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _caller() -> str:
    """`file:line` of the nearest frame that belongs neither to torch nor to the virtual device."""
    own = str(Path(__file__).parent)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and not name.startswith((own, "<")):
            return f"{'/'.join(Path(name).parts[-3:])}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"
