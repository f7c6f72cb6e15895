"""What is assumed of values that nobody knows: that numbers are finite, and where a router sends tokens.

Kernels do nothing on a virtual card, so floating-point results are unknown. Something is assumed of them all
the same where a run that works shows it: it has no NaN and no infinity, its router chooses some expert for
each token, and the token that a text goes on with does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.operations import aten
from profiler.virtual.routing import Routing

if TYPE_CHECKING:
    from profiler.virtual.torch_private import OpOverload

MAX_EXPERTS = 1024
"""A choice among more than these is not taken for a router's: sampling chooses among tens of thousands."""

_IS_ODD = {
    *(aten.isnan.default, aten.isinf.default, aten.isposinf.default, aten.isneginf.default),
    *(aten.isnan.out, aten.isinf.out),
}
_COMPARES = {aten.eq.Tensor: True, aten.ne.Tensor: False}
_COMPARES_TO_SCALAR = {aten.eq.Scalar: False, aten.ne.Scalar: True}


def finite_answer(func: OpOverload, args: tuple[Any, ...]) -> bool | None:
    """What a look for NaN or infinity finds everywhere in unknown finite numbers; None for anything else.

    `x != x` and `abs(x) == inf` are how torch itself writes some of these questions.
    """
    if func in _IS_ODD:
        return False
    if func in _COMPARES and args[0] is args[1]:
        return _COMPARES[func]
    if func in _COMPARES_TO_SCALAR and args[1] in (float("inf"), float("-inf")):
        return _COMPARES_TO_SCALAR[func]
    return None


def assumed_choice(
    func: OpOverload, args: tuple[Any, ...], out: Any, routing: Routing
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The indices on the device that a choice by unknown scores gives, and what they are taken to be.

    A router chooses experts with `topk` over the last dimension of its scores. A next token is chosen with
    `argmax` or `multinomial`; it is taken to be the middle one of the vocabulary, since the first and the
    last ones may end the text. None for anything else.
    """
    if func is aten.topk.default:
        return _experts(args, out[1], routing)
    if func not in (aten.argmax.default, aten.multinomial.default) or not args[0].dtype.is_floating_point:
        return None
    dim = args[1] if func is aten.argmax.default and len(args) > 1 else -1
    num_choices = args[0].numel() if dim is None or args[0].dim() == 0 else args[0].shape[dim]
    return out, torch.full(out.shape, num_choices // 2)


def _experts(
    args: tuple[Any, ...], indices: torch.Tensor, routing: Routing
) -> tuple[torch.Tensor, torch.Tensor] | None:
    scores = args[0]
    dim = args[2] if len(args) > 2 else -1
    is_last = dim in (-1, scores.dim() - 1)
    if (
        scores.dim() < 2
        or not is_last
        or not scores.dtype.is_floating_point
        or scores.shape[-1] > MAX_EXPERTS
    ):
        return None
    experts = torch.arange(indices.shape[-1]).expand(indices.shape)
    if routing is Routing.EVEN:
        experts = torch.arange(indices.numel()).reshape(indices.shape)
    return indices, experts % scores.shape[-1]
