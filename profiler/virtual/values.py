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
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.virtual.backward import unwatched_engine
from profiler.virtual.operations import (
    INDEXED,
    SIZED_BY_VALUES,
    Operation,
    arguments_at,
    aten,
    cuda_tensors,
    describe,
    fills_a_mask,
    goes_to_host,
    tensors_in,
    wraps_tensors,
)
from profiler.virtual.reads import UnknownReads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from torch._ops import OpOverload

KNOWN_LIMIT_BYTES = 16 << 20
"""Integer and boolean storages up to this size are kept true; csrc/memory.c knows the same figure."""
KEPT_FLOAT_LIMIT_BYTES = 64 << 10
"""Floating-point data copied from the host is kept up to this size, so that constants make the round trip."""

INTEGRAL = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


class TrueValues(TorchDispatchMode):
    """While active, small integer and boolean CUDA tensors hold what they would on a real card."""

    def __init__(self) -> None:
        """Starts with nothing known."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.unknown_reads = UnknownReads()
        self._known: dict[int, weakref.finalize[Any, Any]] = {}
        self._operations: dict[OpOverload, Operation] = {}
        library = ctypes.CDLL(None)  # the stand-in, which was loaded before all else
        self._open = library.vgpu_open
        self._recall = library.vgpu_recall
        self._wipe = library.vgpu_wipe
        for function in (self._open, self._recall, self._wipe):
            function.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._wipe.restype = None
        self._indexes_by_masks = False
        self._engine = ExitStack()
        self._depth = 0

    def __enter__(self) -> Self:
        """Begins to follow values; backward passes are another matter (`unwatched_engine`)."""
        if self._depth == 0:
            self._engine.enter_context(unwatched_engine(self, has_masks=lambda: self._indexes_by_masks))
        self._depth += 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what `__enter__` began."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if self._depth == 0:
            self._engine.close()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else every call goes through torch._dynamo, which costs more than the rest

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Whether torch.compile compiles although this mode is active; else it would silently do nothing."""
        return True

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation, and keep the values it makes if all it reads is known."""
        if types and any(map(wraps_tensors, types)):  # they unwrap what they hold, and come back with it
            return NotImplemented
        kwargs = kwargs or {}
        operation = self._operations.get(func)
        if operation is None:
            operation = self._operations[func] = describe(func)
        if operation.is_lift:
            self._take_in(args[0])
        if operation.is_view:
            return func(*args, **kwargs)
        if operation.is_special or operation.is_read:
            return self._run_reading(func, operation, args, kwargs)
        if operation.may_move:
            return self._run_moving(func, operation, args, kwargs)
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

    # ---- operations whose result, or whose size, the host reads ----

    def _run_reading(
        self, func: OpOverload, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        if func is aten._to_copy.default and args[0].is_cuda and not self._is_known(args[0]):
            # Most often a cast between floating-point types on the device: nothing known is read or written.
            if goes_to_host(func, args, kwargs):
                self.unknown_reads.add("_to_copy")
            return func(*args, **kwargs)
        sources = list(cuda_tensors((args, kwargs)))
        is_known = all(self._is_known(t) for t in sources)
        if func in INDEXED:
            if not fills_a_mask(func, args):
                args = self._with_integer_indices(args, str(func))
        elif func is aten.masked_select.default and self._is_known(args[1]):
            tensor, mask = torch.broadcast_tensors(*torch.atleast_1d(args[0], args[1]))
            return self.__torch_dispatch__(aten.index.Tensor, (), (tensor, [mask]))
        elif func in SIZED_BY_VALUES:
            return self._run_sized(func, args, kwargs, is_known=is_known)
        elif sources and goes_to_host(func, args, kwargs):
            return self._run_to_host(func, args, kwargs, is_known=is_known)
        out = func(*args, **kwargs)
        self._follow(func, operation, args, kwargs, out)
        return out

    def _run_to_host(
        self, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_known: bool
    ) -> Any:
        if not is_known:
            self.unknown_reads.add(func._schema.name.removeprefix("aten::"))
        elif func is aten.equal.default:
            return func(*map(self._to_host, args))
        out = func(*args, **kwargs)
        # What is not dense, or of another type, was first made so on the device, where nothing happens.
        if is_known and func is aten._to_copy.default:
            out.copy_(self._host(args[0]))
        elif is_known and func is aten.copy_.default:
            args[0].copy_(self._host(args[1]))
        return out

    def _run_sized(
        self, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_known: bool
    ) -> Any:
        device = next((t.device for t in cuda_tensors(args)), None)
        if device is None:
            return func(*args, **kwargs)
        if not is_known:
            self.unknown_reads.add(func._schema.name.removeprefix("aten::"))
            return func(*args, **kwargs)
        on_host = func(*self._to_host(args), **self._to_host(kwargs))
        moved = tuple(self._to_device(t, device) for t in tensors_in(on_host))
        return moved if isinstance(on_host, tuple) else moved[0]

    def _to_device(self, values: torch.Tensor, device: torch.device) -> torch.Tensor:
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
                continue
            self._indexes_by_masks = True
            if self._is_known(index):
                # One tensor for all dimensions, a row for each, as nonzero lays it out on a device.
                positions = self._host(index).nonzero().t().contiguous()
                indices.extend(self._to_device(positions, index.device).unbind(0))
            else:
                self.unknown_reads.add(operation.removeprefix("aten."))
                indices.append(index)
        return (args[0], indices, *args[2:])

    # ---- keeping the table ----

    def _run_moving(
        self, func: OpOverload, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """An operation that may give a storage other memory: what is known of the old is not of the new."""
        before = [(t, _address(t)) for t in arguments_at(operation.written, args, kwargs)]
        out = func(*args, **kwargs)
        for tensor, address in before:
            if _address(tensor) != address and address in self._known:
                self._known[address]()
        self._follow(func, operation, args, kwargs, out)
        return out

    def _follow(
        self,
        func: OpOverload,
        operation: Operation,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> None:
        """Bring the table up to date after an operation: compute what is computable, forget what is not."""
        if operation.written:
            targets = list(arguments_at(operation.written, args, kwargs))
        else:
            targets = list(cuda_tensors(out))
        if not targets:
            return
        is_kept = all(_is_kept(t, is_copy=operation.is_copy) for t in targets)
        if is_kept and self._can_compute(operation, args, kwargs):
            self._compute(func, operation, args, kwargs, targets)
        else:
            for target in targets:
                self._forget(target)

    def _can_compute(self, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        if operation.is_random:
            return False
        replaced = {id(t) for t in arguments_at(operation.overwritten, args, kwargs) if _fills_storage(t)}
        return all(id(t) in replaced or self._is_known(t) for t in cuda_tensors((args, kwargs)))

    def _compute(
        self,
        func: OpOverload,
        operation: Operation,
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
            for target, result in zip(targets, tensors_in(results), strict=True):
                self._host(target).copy_(result)

    def _take_in(self, tensor: torch.Tensor) -> None:
        """Values that `torch.tensor` has just brought to the device, out of this table's sight."""
        if not tensor.is_cuda or tensor.numel() == 0 or not _is_kept(tensor, is_copy=True):
            return
        storage = tensor.untyped_storage()
        if not self._mark(tensor) or self._recall(storage.data_ptr(), storage.nbytes()) != 0:
            self._forget(tensor)

    def _is_known(self, tensor: torch.Tensor) -> bool:
        return tensor.numel() == 0 or _address(tensor) in self._known

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
        if (watch := self._known.get(_address(tensor))) is not None:
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


def _fills_storage(tensor: torch.Tensor) -> bool:
    """Whether it is all of its storage, each place once."""
    is_whole = tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
    return is_whole and torch._debug_has_internal_overlap(tensor) == 0


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
