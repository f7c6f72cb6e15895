"""What a collective of `torch.distributed` does to values where one process is its whole group.

Reduced over one process, gathered from one, sent from one to itself: what goes in comes out. There are two
families of operators: `c10d` works in place or fills tensors that are called its outputs, `_c10d_functional`
returns new ones.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.operations import cuda_tensors, wraps_tensors
from profiler.virtual.torch_private import schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiler.virtual.torch_private import OpOverload


def passed_on(
    func: OpOverload, args: tuple[Any, ...], out: Any
) -> Iterable[tuple[torch.Tensor | None, torch.Tensor | None]]:
    """Each tensor that this collective has filled, with the one whose values it took.

    One of the two is None where as many are not there: in a pretended group of several processes.
    """
    if func.namespace == "_c10d_functional":
        if isinstance(out, torch.Tensor) and wraps_tensors(type(out)):
            return ()  # to be waited for: it holds what a collective has returned
        filled, taken = out, args[0]
    elif schema_of(func).arguments[0].name.startswith("output"):
        filled, taken = args[:2]
    else:
        return ()  # in place: all is as it was
    return zip_longest(cuda_tensors(filled), cuda_tensors(taken))
