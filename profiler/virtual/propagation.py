"""What an operation leaves in the table of true values: computed, drawn, assumed or forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.assumptions import assumed_choice, finite_answer
from profiler.virtual.draws import draw
from profiler.virtual.operations import Operation, arguments_at, cuda_tensors, tensors_in
from profiler.virtual.reads import caller
from profiler.virtual.table import (
    INTEGRAL,
    KnownStorages,
    can_keep,
    fills_storage,
    is_foreign,
    is_small,
    is_worth_keeping,
    on_host,
    to_host,
)
from profiler.virtual.torch_private import num_writes

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from profiler.virtual.routing import Routing
    from profiler.virtual.torch_private import OpOverload

    Arguments = tuple[Any, ...]
    Named = Mapping[str, Any]


class Propagation:
    """Brings the table up to date after each operation."""

    def __init__(self, known: KnownStorages, assumed: Counter[str], routing: Routing | None) -> None:
        """Starts with what is known.

        Args:
            known: the table.
            assumed: counts what is assumed, by line.
            routing: where routers are taken to send tokens; None leaves every choice by scores unknown.
        """
        self._known = known
        self._assumed = assumed
        self._routing = routing

    def follow(self, operation: Operation, args: Arguments, kwargs: Named, out: Any) -> None:
        """Bring the table up to date after an operation: compute what is computable, forget what is not."""
        written = operation.written
        targets = arguments_at(written, args, kwargs) if written else cuda_tensors(out)
        if not targets:
            return
        is_float = any(t.dtype not in INTEGRAL for t in targets)
        is_kept = all(map(can_keep, targets))
        is_followed = is_kept and (not is_float or self._follows_floats(operation, args, kwargs))
        if is_followed and self._can_compute(operation, args, kwargs):
            self._compute(operation, args, kwargs, targets)
        elif is_kept and not is_float and operation.is_draw and self._can_draw(operation, args, targets[0]):
            drawn = draw(operation.func, to_host(args), kwargs, targets[0])
            self.keep(targets[0], drawn, is_written=bool(operation.written))
        elif is_kept and (answer := finite_answer(operation.func, args)) is not None:
            for target in targets:
                self.keep(target, torch.tensor(answer), is_written=bool(operation.written))
        else:
            self._known.drop(targets)
            if self._routing is not None:
                self._route(operation.func, args, out, self._routing)

    def _route(self, func: OpOverload, args: Arguments, out: Any, routing: Routing) -> None:
        choice = assumed_choice(func, args, out, routing)
        if choice is not None and can_keep(choice[0]) and self.keep(*choice):
            self._assumed[caller()] += 1

    def keep(self, tensor: torch.Tensor, values: torch.Tensor, *, is_written: bool = False) -> bool:
        """From now on a tensor holds these values; False where that cannot be, or costs more than it serves.

        Args:
            tensor: on the card.
            values: on the host.
            is_written: the operation wrote to it in place.
        """
        if not is_worth_keeping(values):
            self._known.drop([tensor])
            return False
        if not is_written and not is_small(tensor) and fills_storage(tensor) and not values.any():
            self._known.add_zeros(tensor)
            return True
        if not self._known.add(tensor, is_written=is_written):
            return False
        on_host(tensor).copy_(values)
        return True

    def _follows_floats(self, operation: Operation, args: Arguments, kwargs: Named) -> bool:
        """Whether floating-point results are to be known: not of weights, of much data or of long work.

        A gradient that is zeroed is not: the engine will add to it, again and again.
        """
        if operation.is_costly:
            return False
        found = tensors_in((args, kwargs))
        if not operation.is_copy and any(t.requires_grad or isinstance(t, torch.nn.Parameter) for t in found):
            return False
        if not all(t.is_cuda or (not is_foreign(t) and is_worth_keeping(t)) for t in found):
            return False
        written = arguments_at(operation.written, args, kwargs)
        is_told = operation.is_copy and all(map(is_small, written))
        return is_told or all(num_writes(t) <= 0 or self._known.has(t) for t in written)

    def _can_compute(self, operation: Operation, args: Arguments, kwargs: Named) -> bool:
        if operation.is_random:
            return False
        replaced = {id(t) for t in arguments_at(operation.overwritten, args, kwargs) if fills_storage(t)}
        if operation.is_shaped:
            replaced.add(id(args[0]))
        read = (t for t in tensors_in((args, kwargs)) if t.is_cuda)
        return all(id(t) in replaced or self._known.has(t) for t in read)

    def _can_draw(self, operation: Operation, args: Arguments, target: torch.Tensor) -> bool:
        """Whether all of the storage is drawn, or the rest of it known, within bounds that are known."""
        is_whole = not operation.written or fills_storage(target) or self._known.has(target)
        return is_whole and all(map(self._known.has, cuda_tensors(args[1:])))

    def _compute(
        self, operation: Operation, args: Arguments, kwargs: Named, targets: list[torch.Tensor]
    ) -> None:
        if operation.written and not all(self._known.add(t, is_written=True) for t in targets):
            return
        try:
            results = operation.run(*to_host(args), **to_host(kwargs))
        except (NotImplementedError, RuntimeError):  # an operation the CPU lacks: its values stay unknown
            self._known.drop(targets)
            return
        if not operation.written:  # otherwise it wrote the very bytes
            for target, result in zip(targets, tensors_in(results), strict=True):
                self.keep(target, result)
