"""Integers and booleans drawn at random on a virtual card: drawn on the host, since any draw is as good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from profiler.virtual.torch_private import schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.virtual.torch_private import OpOverload

DRAWS = frozenset(
    f"aten::{name}"
    for name in ("randint", "randint_like", "randperm", "random_", "random", "bernoulli_", "geometric_")
)
"""Operators that draw integers, or may. A choice by scores (`multinomial`) and dropout are not among them."""


def draw(
    func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], target: torch.Tensor
) -> torch.Tensor:
    """What an operator of `DRAWS` draws for a tensor on the card: on the host, of its shape and type.

    It follows from the state of the card's own generator, which the operation has just moved on: a seed gives
    the same values again, and neither that generator nor the host's is disturbed.

    Args:
        func: the operator.
        args: its arguments; tensors that bound the draw are on the host.
        kwargs: the same, by name.
        target: what it wrote.
    """
    named = {argument.name: value for argument, value in zip(schema_of(func).arguments, args, strict=False)}
    named |= kwargs
    generator = _twin(named.get("generator") or torch.cuda.default_generators[target.device.index])
    drawn = torch.empty(target.shape, dtype=target.dtype)
    match schema_of(func).name.removeprefix("aten::"):
        case "randint" | "randint_like":
            return drawn.random_(int(named.get("low", 0)), int(named["high"]), generator=generator)
        case "randperm":
            return torch.randperm(named["n"], generator=generator, dtype=target.dtype)
        case "random_" | "random":
            return drawn.random_(*args[1:], generator=generator)
        case "bernoulli_":
            return drawn.bernoulli_(*args[1:], generator=generator)
        case _:
            return drawn.geometric_(named["p"], generator=generator)


def _twin(generator: torch.Generator) -> torch.Generator:
    """A generator of the host whose draws follow from the state of one of the card."""
    state = (generator.initial_seed(), generator.get_offset())
    return torch.Generator().manual_seed(hash(state))
