"""Random programs over small integer and boolean tensors, for whichever device they are run on."""

# ruff: noqa: ARG005 - every operation takes the same arguments
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everyone writes it
from hypothesis import strategies as st

MAX_NUMEL = 4096
Pool = list[torch.Tensor]
Numbers = tuple[int, int, int]


@dataclass(frozen=True)
class Step:
    """One operation on tensors of the pool, which are chosen by number; `numbers` are its constants."""

    operation: str
    tensors: tuple[int, int, int]
    numbers: Numbers


def programs(*, max_steps: int = 12) -> st.SearchStrategy[list[Step]]:
    """Programs of a few steps; steps that do not fit their tensors are left out as they are run."""
    index, number = st.integers(0, 30), st.integers(-3, 9)
    step = st.builds(
        Step,
        operation=st.sampled_from(sorted(OPERATIONS)),
        tensors=st.tuples(index, index, index),
        numbers=st.tuples(number, number, number),
    )
    return st.lists(step, min_size=1, max_size=max_steps)


def starting_pool(device: str) -> Pool:
    """What every program begins with: made on the device, and brought there from the host."""
    return [
        torch.arange(6, device=device),
        torch.tensor([[1, 0, 2], [0, 3, 0]], device=device),
        torch.tensor([True, False, True]).to(device),
        torch.ones(2, 3, dtype=torch.bool, device=device),
        torch.tensor(2, device=device),
    ]


def run_step(step: Step, pool: Pool) -> list[torch.Tensor]:
    """The step's results, which the pool now holds too.

    Raises:
        RuntimeError, IndexError, ValueError: it does not fit these tensors.
    """
    chosen = [pool[index % len(pool)] for index in step.tensors]
    made = OPERATIONS[step.operation](pool[0].device, chosen, step.numbers)
    results = [made] if isinstance(made, torch.Tensor) else list(made)
    if any(result.numel() > MAX_NUMEL or result.dim() > 4 for result in results):
        raise ValueError("it grows too large")
    pool.extend(results)
    return results


def is_integral(tensor: torch.Tensor) -> bool:
    """Whether its values must be true: boolean or integer."""
    return not tensor.is_floating_point()


Operation = Callable[[torch.device, Sequence[torch.Tensor], Numbers], Any]

# Of the arguments: d the device, t three tensors, n three small numbers.
OPERATIONS: dict[str, Operation] = {
    # made on the device, or brought to it
    "arange": lambda d, t, n: torch.arange(n[0], n[0] + abs(n[1]) + 1, device=d),
    "full": lambda d, t, n: torch.full((abs(n[0]), 2), n[1], device=d),
    "zeros": lambda d, t, n: torch.zeros(abs(n[0]), 3, dtype=torch.int32, device=d),
    "eye": lambda d, t, n: torch.eye(abs(n[0]), dtype=torch.long, device=d),
    "tril_indices": lambda d, t, n: torch.tril_indices(abs(n[0]), abs(n[1]), device=d),
    "tensor": lambda d, t, n: torch.tensor(list(n), device=d),
    "tensor_bool": lambda d, t, n: torch.tensor([x > 2 for x in n], device=d),
    "scalar_tensor": lambda d, t, n: torch.tensor(n[0], device=d),
    "from_host": lambda d, t, n: torch.arange(20)[abs(n[0]) :: 2].to(d),
    "empty_filled": lambda d, t, n: torch.empty(abs(n[0]), 2, dtype=torch.long, device=d).fill_(n[1]),
    "empty_zeroed": lambda d, t, n: torch.empty_like(t[0]).zero_(),
    "empty_copied": lambda d, t, n: torch.empty_like(t[0]).copy_(t[0]),
    "new_empty_filled": lambda d, t, n: t[0].new_empty((2, abs(n[0]))).fill_(1),
    "new_zeros": lambda d, t, n: t[0].new_zeros((2, 2)),
    "new_ones": lambda d, t, n: t[0].new_ones((abs(n[0]),)),
    "new_full": lambda d, t, n: t[0].new_full((3,), n[0]),
    "new_tensor": lambda d, t, n: t[0].new_tensor([1, 0, 1]),
    "ones_like": lambda d, t, n: torch.ones_like(t[0]),
    "full_like": lambda d, t, n: torch.full_like(t[0], n[0]),
    "zeros_like_bool": lambda d, t, n: torch.zeros_like(t[0], dtype=torch.bool),
    # element by element
    "eq": lambda d, t, n: t[0] == t[1],
    "ne_scalar": lambda d, t, n: t[0] != n[0],
    "lt": lambda d, t, n: t[0] < t[1],
    "ge_scalar": lambda d, t, n: t[0] >= n[0],
    "and": lambda d, t, n: (t[0] > 0) & (t[1] > 1),
    "or": lambda d, t, n: t[0].bool() | t[1].bool(),
    "xor": lambda d, t, n: t[0] ^ t[1],
    "logical_not": lambda d, t, n: t[0].logical_not(),
    "logical_and": lambda d, t, n: torch.logical_and(t[0], t[1]),
    "bitwise_not": lambda d, t, n: ~t[0],
    "add": lambda d, t, n: t[0] + t[1],
    "add_scalar": lambda d, t, n: t[0] + n[0],
    "subtract": lambda d, t, n: t[0] - t[1],
    "rsub": lambda d, t, n: n[0] - t[0],
    "multiply": lambda d, t, n: t[0] * t[1],
    "floor_divide": lambda d, t, n: t[0] // (abs(n[0]) + 1),
    "remainder": lambda d, t, n: t[0] % (abs(n[0]) + 2),
    "power": lambda d, t, n: t[0].clamp(-3, 3) ** 2,
    "negative": lambda d, t, n: -t[0],
    "absolute": lambda d, t, n: t[0].abs(),
    "clamp": lambda d, t, n: t[0].clamp(min=0, max=abs(n[0])),
    "maximum": lambda d, t, n: torch.maximum(t[0], t[1]),
    "where": lambda d, t, n: torch.where(t[0] > n[0], t[1], t[2]),
    "where_scalar": lambda d, t, n: torch.where(t[0].bool(), t[1], n[0]),
    "masked_fill": lambda d, t, n: t[0].masked_fill(t[1] > 0, n[0] > 2),
    "isin": lambda d, t, n: torch.isin(t[0], t[1]),
    "to_bool": lambda d, t, n: t[0].bool(),
    "to_int": lambda d, t, n: t[0].int(),
    "to_uint8": lambda d, t, n: t[0].clamp(0, 200).to(torch.uint8),
    "to_int16": lambda d, t, n: t[0].to(torch.int16),
    "there_and_back": lambda d, t, n: t[0].cpu().clone().to(d),
    "through_float": lambda d, t, n: t[0].clamp(-999, 999).float().long(),
    # reductions and scans
    "sum": lambda d, t, n: t[0].sum(),
    "sum_dim": lambda d, t, n: t[0].sum(n[0], keepdim=True),
    "sum_dtype": lambda d, t, n: t[0].sum(-1, dtype=torch.int32),
    "all": lambda d, t, n: t[0].all(),
    "any_dim": lambda d, t, n: t[0].any(n[0]),
    "max": lambda d, t, n: t[0].max(),
    "max_dim": lambda d, t, n: tuple(t[0].max(n[0])),
    "argmax": lambda d, t, n: t[0].long().argmax(-1),
    "count_nonzero": lambda d, t, n: t[0].count_nonzero(),
    "prod": lambda d, t, n: t[0].clamp(-2, 2).prod(-1),
    "cumsum": lambda d, t, n: t[0].cumsum(n[0]),
    "cummax": lambda d, t, n: tuple(t[0].cummax(-1)),
    "diff": lambda d, t, n: t[0].diff(dim=-1),
    "sort": lambda d, t, n: tuple(t[0].long().sort(dim=-1, stable=True, descending=n[0] > 0)),
    "topk": lambda d, t, n: tuple(t[0].long().topk(1)),
    # shapes, and joining
    "reshape": lambda d, t, n: t[0].reshape(-1),
    "view_column": lambda d, t, n: t[0].view(-1, 1),
    "transpose": lambda d, t, n: t[0].transpose(0, -1),
    "contiguous": lambda d, t, n: t[0].transpose(0, -1).contiguous(),
    "slice": lambda d, t, n: t[0][abs(n[0]) % 3 :],
    "strided": lambda d, t, n: t[0][..., ::2],
    "select": lambda d, t, n: t[0][n[0]],
    "expand": lambda d, t, n: t[0].unsqueeze(0).expand(2, *t[0].shape),
    "repeat": lambda d, t, n: t[0].repeat(2, *[1] * (t[0].dim() - 1)),
    "flip": lambda d, t, n: t[0].flip(0),
    "roll": lambda d, t, n: t[0].roll(1, 0),
    "tril": lambda d, t, n: t[0].tril(n[0]),
    "pad": lambda d, t, n: F.pad(t[0], (1, abs(n[0])), value=1),
    "cat": lambda d, t, n: torch.cat([t[0], t[1]], dim=n[0] % 2),
    "stack": lambda d, t, n: torch.stack([t[0], t[1]]),
    "split": lambda d, t, n: t[0].split(2),
    "unbind": lambda d, t, n: t[0].unbind(0),
    "outer": lambda d, t, n: torch.outer(t[0], t[1]),
    "meshgrid": lambda d, t, n: torch.meshgrid(t[0], t[1], indexing="ij"),
    "clone": lambda d, t, n: t[0].clone(),
    # indexing
    "index": lambda d, t, n: t[0][t[1].long().clamp(0, 1)],
    "index_bool": lambda d, t, n: t[0][t[1] > 0],
    "index_mixed": lambda d, t, n: t[0][:, t[1].bool()],
    "masked_select": lambda d, t, n: torch.masked_select(t[0], t[1] > n[0]),
    "index_select": lambda d, t, n: t[0].index_select(0, t[1].clamp(0, 1)),
    "gather": lambda d, t, n: t[0].gather(-1, t[1].long().clamp(0, 1)),
    "take_along": lambda d, t, n: t[0].take_along_dim(t[0].long().argsort(dim=-1, stable=True), -1),
    "scatter": lambda d, t, n: torch.zeros_like(t[0]).scatter(-1, t[1].long().clamp(0, 1), n[0] > 0),
    "scatter_add": lambda d, t, n: torch.zeros(8, dtype=torch.long, device=d).scatter_add(
        0, t[0].flatten().long().clamp(0, 7), torch.ones_like(t[0].flatten(), dtype=torch.long)
    ),
    "nonzero": lambda d, t, n: t[0].nonzero(),
    "nonzero_tuple": lambda d, t, n: t[0].nonzero(as_tuple=True),
    "where_one": lambda d, t, n: torch.where(t[0] > n[0]),
    "argwhere": lambda d, t, n: torch.argwhere(t[0]),
    "unique": lambda d, t, n: torch.unique(t[0], return_inverse=True, return_counts=True),
    "unique_dim": lambda d, t, n: torch.unique(t[0], dim=0),
    "unique_consecutive": lambda d, t, n: torch.unique_consecutive(t[0]),
    "bincount": lambda d, t, n: torch.bincount(t[0].flatten().long().clamp(0, 20)),
    "repeat_interleave": lambda d, t, n: torch.repeat_interleave(t[0].flatten().long().clamp(0, 3)),
    "one_hot": lambda d, t, n: F.one_hot(t[0].long().clamp(0, 5)),
    "one_hot_sized": lambda d, t, n: F.one_hot(t[0].long().clamp(0, 5), num_classes=6),
    "searchsorted": lambda d, t, n: torch.searchsorted(torch.arange(5, device=d), t[0].long()),
    "embedding": lambda d, t, n: F.embedding(t[1].long().clamp(0, 1), t[0]),
    # in place, through views too
    "add_": lambda d, t, n: t[0].add_(n[0]),
    "multiply_": lambda d, t, n: t[0].mul_(t[1]),
    "zero_": lambda d, t, n: t[0].zero_(),
    "fill_row_": lambda d, t, n: t[0][0].fill_(n[0]),
    "set_item_": lambda d, t, n: _set(t[0], n[0], n[1]),
    "set_by_mask_": lambda d, t, n: _set(t[0], t[1] > 1, n[1]),
    "set_by_index_": lambda d, t, n: _set(t[0], t[1].long().clamp(0, 1), n[1]),
    "set_values_": lambda d, t, n: _set(t[0], t[0] > n[0], t[0][t[0] > n[0]] + 1),
    "masked_fill_": lambda d, t, n: t[0].masked_fill_(t[1].bool(), n[0]),
    "copy_": lambda d, t, n: t[0].copy_(t[1]),
    "copy_row_": lambda d, t, n: t[0][-1].copy_(t[1]),
    "copy_from_host_": lambda d, t, n: t[0].copy_(torch.tensor(n[0])),
    "logical_and_": lambda d, t, n: t[0].logical_and_(t[1]),
    "cumsum_": lambda d, t, n: t[0].cumsum_(0),
    "index_fill_": lambda d, t, n: t[0].index_fill_(0, t[1].long().clamp(0, 1), n[0]),
    "index_add_": lambda d, t, n: t[0].index_add_(
        0, torch.zeros(1, dtype=torch.long, device=d), t[0][:1].clone()
    ),
    "scatter_": lambda d, t, n: t[0].scatter_(0, t[1].long().clamp(0, 1), n[0]),
    "fill_diagonal_": lambda d, t, n: t[0].fill_diagonal_(n[0]),
    "transposed_add_": lambda d, t, n: t[0].transpose(0, -1).add_(1),
    "out": lambda d, t, n: torch.add(t[0], t[1], out=torch.empty(0, dtype=torch.long, device=d)),
    # the host reads, and decides
    "item": lambda d, t, n: torch.full((abs(int(t[0].sum().item())) % 5,), n[0], device=d),
    "tolist": lambda d, t, n: torch.tensor(t[0].tolist(), device=d),
    "branch": lambda d, t, n: t[1] if bool((t[0] > n[0]).all()) else t[2],
    "equal": lambda d, t, n: torch.tensor(torch.equal(t[0], t[1]), device=d),
    "allclose": lambda d, t, n: torch.tensor(bool((t[0] == t[1].to(t[0].dtype)).any()), device=d),
}


def _set(tensor: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    tensor[index] = value
    return tensor
