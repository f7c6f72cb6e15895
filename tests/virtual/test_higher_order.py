"""Operators over functions, as flex_attention is one, run while values are followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention.flex_attention import flex_attention

from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines


def test_flex_attention_runs_forward_and_backward(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _attend) == [[1, 2, 128, 16], [1, 2, 128, 16], [3, 5]]


def _attend() -> list[Any]:
    with TrueValues():
        query, key, value = (torch.randn(1, 2, 128, 16, device="cuda", requires_grad=True) for _ in range(3))
        counts = torch.tensor([3, 5], device="cuda")
        out = flex_attention(query, key, value)
        out.sum().backward()
        assert query.grad is not None
        return [list(out.shape), list(query.grad.shape), counts.tolist()]
