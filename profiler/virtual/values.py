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
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.virtual.assumptions import assumed_choice, finite_answer
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
from profiler.virtual.reads import UnknownReads, caller, can_decide
from profiler.virtual.storages import INTEGRAL, address_of, can_keep, fills_storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from torch._ops import OpOverload

    from profiler.virtual.routing import Routing


class TrueValues(TorchDispatchMode):
    """While active, small integer and boolean CUDA tensors hold what they would on a real card."""

    def __init__(self, *, routing: Routing | None = None) -> None:
        """Starts with nothing known.

        Args:
            routing: where routers are taken to send tokens; None leaves every choice by scores unknown.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.unknown_reads = UnknownReads()
        self.assumed: Counter[str] = Counter()
        self._routing = routing
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
                self._count_read(func, args)
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
            self._count_read(func, args)
        elif func is aten.equal.default:
            return func(*map(self._to_host, args))
        out = func(*args, **kwargs)
        # What is not dense, or of another type, was first made so on the device, where nothing happens.
        if is_known and func is aten._to_copy.default:
            out.copy_(self._host(args[0]))
        elif is_known and func is aten.copy_.default:
            args[0].copy_(self._host(args[1]))
        return out

    def _count_read(self, func: OpOverload, args: tuple[Any, ...]) -> None:
        """Count a read of an unknown value; two equal tensors are compared to take a branch."""
        source = args[1] if func is aten.copy_.default else args[0]
        decides = func is aten.equal.default or can_decide(source.dtype)
        self.unknown_reads.add(func._schema.name.removeprefix("aten::"), decides=decides)

    def _run_sized(
        self, func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_known: bool
    ) -> Any:
        device = next((t.device for t in cuda_tensors(args)), None)
        if device is None:
            return func(*args, **kwargs)
        if not is_known:
            self.unknown_reads.add(func._schema.name.removeprefix("aten::"), decides=True)
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
                self.unknown_reads.add(operation.removeprefix("aten."), decides=True)
                indices.append(index)
        return (args[0], indices, *args[2:])

    # ---- keeping the table ----

    def _run_moving(
        self, func: OpOverload, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """An operation that may give a storage other memory: what is known of the old is not of the new."""
        before = [(t, address_of(t)) for t in arguments_at(operation.written, args, kwargs)]
        out = func(*args, **kwargs)
        for tensor, address in before:
            if address_of(tensor) != address and address in self._known:
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
        is_kept = all(can_keep(t, is_copy=operation.is_copy) for t in targets)
        if is_kept and self._can_compute(operation, args, kwargs):
            self._compute(func, operation, args, kwargs, targets)
        elif is_kept and (answer := finite_answer(func, args)) is not None:
            for target in filter(self._mark, targets):
                self._host(target).fill_(answer)
        else:
            for target in targets:
                self._forget(target)
            if self._routing is not None:
                self._route(func, args, out, self._routing)

    def _route(self, func: OpOverload, args: tuple[Any, ...], out: Any, routing: Routing) -> None:
        choice = assumed_choice(func, args, out, routing)
        if choice is not None and can_keep(choice[0], is_copy=False) and self._mark(choice[0]):
            self._host(choice[0]).copy_(choice[1])
            self.assumed[caller()] += 1

    def _can_compute(self, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        if operation.is_random:
            return False
        replaced = {id(t) for t in arguments_at(operation.overwritten, args, kwargs) if fills_storage(t)}
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
        if not tensor.is_cuda or tensor.numel() == 0 or not can_keep(tensor, is_copy=True):
            return
        storage = tensor.untyped_storage()
        if not self._mark(tensor) or self._recall(storage.data_ptr(), storage.nbytes()) != 0:
            self._forget(tensor)

    def _is_known(self, tensor: torch.Tensor) -> bool:
        return tensor.numel() == 0 or address_of(tensor) in self._known

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
        if (watch := self._known.get(address_of(tensor))) is not None:
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
