"""True values of small tensors on a virtual device, computed on the CPU as they happen.

Kernels do nothing there, so device memory reads as zeros. Libraries read masks and positions back to choose
an attention kernel, to size a tensor, to take a branch; a wrong answer changes what is allocated.
`TrueValues` runs under every operation: the real operation first, with its real allocations, and where every
input is known the same operation on the CPU, over the same bytes. What follows from weights and from random
numbers stays unknown, reads as zero, and a read of it by the host is counted, with the line that asked.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch

from profiler.virtual.backward import unwatched_engine
from profiler.virtual.checks import passing_answer
from profiler.virtual.collectives import passed_on
from profiler.virtual.compiling import guards_with
from profiler.virtual.kernels import watched_kernels
from profiler.virtual.operations import (
    COMPARISONS,
    FINITE,
    Operation,
    Treatment,
    arguments_at,
    aten,
    cuda_tensors,
    describe,
    goes_to_host,
    masks_in,
    tensors_in,
    wraps_tensors,
)
from profiler.virtual.propagation import Propagation
from profiler.virtual.reads import UnknownReads, accepting_answer, asking_frame, caller, can_decide
from profiler.virtual.sized import PlantedAnswers, answers, count_of, deciding, result_on_cpu
from profiler.virtual.table import (
    INTEGRAL,
    KnownStorages,
    address_of,
    can_keep,
    fills_storage,
    is_small,
    is_worth_keeping,
    on_host,
    to_host,
)
from profiler.virtual.torch_private import FAKE_KIND, MODE_OF_KIND, TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from profiler.virtual.routing import Routing
    from profiler.virtual.torch_private import OpOverload

    Arguments = tuple[Any, ...]
    Named = Mapping[str, Any]
    Handler = Callable[[Operation, Arguments, Named], Any]
    Plan = tuple[Operation, Handler | None]

_mode_of_kind, _FAKE = MODE_OF_KIND.find(), FAKE_KIND.find()


class TrueValues(TorchDispatchMode):
    """While active, small CUDA tensors hold what they would on a real card, if nothing unknown went in.

    Attributes:
        known: the storages that are true.
        unknown_reads: reads by the host of values that are not.
        assumed: how often something was assumed of such a value, by line.
        inexact: operations sized by values that read otherwise than expected: their temporary buffers are not
            those of a real card.
    """

    supports_higher_order_operators = True

    def __init__(self, *, routing: Routing | None = None) -> None:
        """Starts with nothing known.

        Args:
            routing: where routers are taken to send tokens; None leaves every choice by scores unknown.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = KnownStorages()
        self.unknown_reads = UnknownReads()
        self.assumed: Counter[str] = Counter()
        self.inexact: Counter[str] = Counter()
        self._propagation = Propagation(self.known, self.assumed, routing)
        self._plans: dict[int, Plan] = {}
        self._planted = PlantedAnswers()
        self._indexes_by_masks = False
        self._watching = ExitStack()
        self._depth = 0

    def __enter__(self) -> Self:
        """Begins to follow values; backward passes are another matter (`unwatched_engine`)."""
        if self._depth == 0:
            self._watching.enter_context(unwatched_engine(self, has_masks=lambda: self._indexes_by_masks))
            self._watching.enter_context(watched_kernels(self.known))
            self._watching.enter_context(guards_with(self))
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
            self._watching.close()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else every call goes through torch.compile, which costs more than the rest

    @classmethod
    def is_infra_mode(cls) -> bool:
        """The same question, as torch 2.5 to 2.9 ask it."""
        return True

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Whether torch.compile compiles although this mode is active; else it would silently do nothing."""
        return True

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Arguments = (), kwargs: Named | None = None
    ) -> Any:
        """Run the operation, and keep the values it makes if all it reads is known."""
        if _mode_of_kind(_FAKE) is not None:  # within it, tensors have shapes and no memory
            return func(*args, **(kwargs or {}))
        if types and any(map(wraps_tensors, types)):  # they unwrap what they hold, and come back with it
            return NotImplemented
        kwargs = kwargs or {}
        # By identity, since the hash of an operator is computed in Python; the description keeps it alive.
        operation, run = self._plans.get(id(func)) or self._plan(func)
        if run is not None:
            return run(operation, args, kwargs)
        out = operation.run(*args, **kwargs)
        # The common case, most of a training step, is a view or a floating-point result of weights.
        if not operation.is_view and (
            not isinstance(out, torch.Tensor)
            or out.dtype in INTEGRAL
            or not (args and isinstance(first := args[0], torch.Tensor))
            or not (first.requires_grad or (not operation.is_shaped and not self.known.has(first)))
        ):
            self._propagation.follow(operation, args, kwargs, out)
        return out

    def _plan(self, func: OpOverload) -> Plan:
        operation = describe(func)
        handlers: dict[Treatment, Handler] = {
            Treatment.CAST: self._run_cast,
            Treatment.READ: self._run_reading,
            Treatment.SIZED: self._run_sized,
            Treatment.INDEXING: self._run_indexing,
            Treatment.COLLECTIVE: self._run_collective,
            Treatment.MOVING: self._run_moving,
            Treatment.SHOWING: self._run_showing,
            Treatment.SPARSE: self._run_sparse,
            Treatment.LIFT: self._run_lift,
            Treatment.FINITE: self._run_finite,
            Treatment.OTHER: self._run_followed,
        }
        plan = self._plans[id(func)] = operation, handlers.get(operation.treatment)
        return plan

    def _run_followed(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        out = operation.run(*args, **kwargs)
        self._propagation.follow(operation, args, kwargs, out)
        return out

    def _run_collective(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        out = operation.run(*args, **kwargs)
        for filled, taken in passed_on(operation.func, args, out):
            if filled is None or (taken is not None and address_of(filled) == address_of(taken)):
                continue
            is_kept = can_keep(filled) and (fills_storage(filled) or self.known.has(filled))
            is_told = taken is not None and taken.numel() == filled.numel() and self.known.has(taken)
            if taken is None or not is_kept or not is_told:
                self.known.drop([filled])
            else:
                self._propagation.keep(filled, on_host(taken).reshape(filled.shape), is_written=True)
        return out

    def _run_lift(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        """Take in what `torch.tensor` has just brought to the device, out of this table's sight."""
        tensor: torch.Tensor = args[0]
        if tensor.is_cuda and tensor.numel() > 0 and is_small(tensor):
            self.known.recall(tensor)
        return operation.run(*args, **kwargs)

    def _run_finite(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        """An operation that first asks whether all is finite, where the rest of this table is not asked."""
        out, _ = self._planted.run(partial(operation.run, *args, **kwargs), FINITE[operation.func])
        self._propagation.follow(operation, args, kwargs, out)
        return out

    def _run_moving(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        """An operation that may give a storage other memory: what is known of the old is not of the new."""
        before = [(t, address_of(t)) for t in arguments_at(operation.written, args, kwargs)]
        out = operation.run(*args, **kwargs)
        for tensor, address in before:
            if address_of(tensor) != address:
                self.known.drop_at(address)
        self._propagation.follow(operation, args, kwargs, out)
        return out

    def _run_showing(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        """What copies whole storages, such as a deep copy or a checkpoint that is loaded, works on bytes."""
        out = operation.run(*args, **kwargs)
        if out.is_cuda and not (is_small(out) or (self.known.has(out) and is_worth_keeping(on_host(out)))):
            self.known.drop([out])
        return out

    def _run_sparse(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        """Counts what is not zero past any operator; here it finds nothing."""
        if args[0].is_cuda:
            self.unknown_reads.add(operation.name, decides=True)
        return operation.run(*args, **kwargs)

    # ---- operations whose result the host reads ----

    def _run_cast(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        """A copy, perhaps to another type or device; most often between floating-point types on the card."""
        source = args[0]
        is_read = goes_to_host(operation.func, args, kwargs)
        if source.is_cuda and not self.known.has(source):
            if is_read:
                self._count_read(operation, args)
            return operation.run(*args, **kwargs)
        if not is_read:
            return self._run_followed(operation, args, kwargs)
        # What is not dense, or of another type, was first made so on the device, where nothing happens.
        return operation.run(*args, **kwargs).copy_(on_host(source))

    def _run_reading(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        sources = cuda_tensors(args)
        if not sources:
            return operation.run(*args, **kwargs)
        if not goes_to_host(operation.func, args, kwargs):
            return self._run_followed(operation, args, kwargs)
        if not all(map(self.known.has, sources)):
            return self._read_unknown(operation, args, kwargs)
        if operation.func in COMPARISONS:
            return operation.run(*map(to_host, args), **kwargs)
        if operation.func is aten.copy_.default:
            operation.run(*args, **kwargs)
            return args[0].copy_(on_host(args[1]))
        return operation.run(*args, **kwargs)

    def _read_unknown(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        out = operation.run(*args, **kwargs)
        if isinstance(out, bool):  # a script that works passes what it checks
            frame = asking_frame()
            if (answer := passing_answer(frame)) is not None:
                self.assumed[caller()] += 1
                return answer
            if (answer := accepting_answer(frame)) is not None:
                return answer
        self._count_read(operation, args)
        return out

    def _count_read(self, operation: Operation, args: Arguments) -> None:
        """Count a read of an unknown value; two equal tensors are compared to take a branch."""
        source = args[1] if operation.func is aten.copy_.default else args[0]
        decides = operation.func in COMPARISONS or can_decide(source.dtype)
        self.unknown_reads.add(operation.name, decides=decides)

    # ---- operations whose size, or what they allocate, values decide ----

    def _run_sized(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        sources = cuda_tensors((args, kwargs))
        if not sources:
            return operation.run(*args, **kwargs)
        if not all(map(self.known.has, deciding(operation.func, args))):
            self.unknown_reads.add(operation.name, decides=True)
            if not all(map(is_small, sources)):
                return operation.run(*args, **kwargs)
        # What is unknown is zero to the CPU as well.
        result = result_on_cpu(operation.func, to_host(args), to_host(kwargs))
        planned = answers(operation.func, to_host(args), kwargs, result)
        out, is_exact = self._planted.run(partial(operation.run, *args, **kwargs), planned)
        made, true = tensors_in(out), tensors_in(result)
        if not is_exact or [t.shape for t in made] != [t.shape for t in true]:
            self.inexact[str(operation.func)] += 1
            made = [torch.empty_like(t, device=sources[0].device) for t in true]
            out = tuple(made) if isinstance(out, tuple) else made[0]
        if all(map(self.known.has, sources)):
            for tensor, values in zip(made, true, strict=True):
                if can_keep(tensor):
                    self._propagation.keep(tensor, values)
        return out

    def _run_indexing(self, operation: Operation, args: Arguments, kwargs: Named) -> Any:
        masks = [mask for mask in masks_in(operation.func, args) if mask.is_cuda]
        if not masks:
            return self._run_followed(operation, args, kwargs)
        self._indexes_by_masks = True
        planned = [count_of(on_host(mask)) if self.known.has(mask) else 0 for mask in masks]
        for mask in masks:
            if not self.known.has(mask):
                self.unknown_reads.add(str(operation.func).removeprefix("aten."), decides=True)
        out, is_exact = self._planted.run(partial(self._run_moving, operation, args, kwargs), planned)
        if not is_exact:
            self.inexact[str(operation.func)] += 1
        return out
