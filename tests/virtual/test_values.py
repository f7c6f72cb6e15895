"""Small integer and boolean tensors hold true values on the virtual card; anything else reads as zeros."""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.virtual.harness import WarmMachines


def test_data_from_the_host_makes_the_round_trip(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _round_trip) == [[3, 1, 2], [True, False], [0.5, -2.0], 42, 0]


def _round_trip() -> list[Any]:
    with TrueValues() as values:
        return [
            torch.tensor([3, 1, 2]).to("cuda").tolist(),
            torch.tensor([True, False]).pin_memory().to("cuda", non_blocking=True).tolist(),
            torch.tensor([0.5, -2.0], device="cuda").cpu().tolist(),
            torch.tensor(42, device="cuda").item(),
            values.unknown_reads.total,
        ]


def test_values_come_back_from_a_view_a_transpose_and_a_slice(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _look_through_views) == [[[0, 2, 4], [1, 3, 5]], [[3], [5]], [5, 4, 3], 4]


def _look_through_views() -> list[Any]:
    with TrueValues():
        table = torch.arange(6, device="cuda").reshape(3, 2)
        backwards = table.flatten().flip(0)[:3]
        return [table.T.tolist(), table[1:, 1:].tolist(), backwards.tolist(), int(table[2, 0])]


def test_a_write_through_a_view_is_seen_by_its_base(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _write_through_a_view) == [[0, 9, 9, 3], [0, 10, 10, 3]]


def _write_through_a_view() -> list[Any]:
    with TrueValues():
        base = torch.arange(4, device="cuda")
        middle = base[1:3]
        middle.fill_(9)
        first = base.tolist()
        middle += 1
        return [first, base.tolist()]


def test_what_floating_point_decides_is_unknown_and_reads_as_zero(virtual_gpu: WarmMachines) -> None:
    largest, is_positive, mean, count = virtual_gpu("rtx-4090", _decide_by_floats)
    assert (largest, is_positive, mean) == (0, [False, False], 0.0)
    assert count == 3


def _decide_by_floats() -> list[Any]:
    with TrueValues() as values:
        scores = torch.nn.functional.linear(torch.ones(2, 8, device="cuda"), torch.ones(4, 8, device="cuda"))
        return [
            scores.argmax().item(),
            (scores[0, :2] > 0).tolist(),
            scores.mean().item(),
            values.unknown_reads.total,
        ]


def test_an_unknown_read_is_counted_at_the_line_that_asked(virtual_gpu: WarmMachines) -> None:
    sites = virtual_gpu("rtx-4090", _read_unknown_values)
    first = _read_unknown_values.__code__.co_firstlineno
    here = "tests/virtual/test_values.py"
    lines = {f"{here}:{first + after}": times for after, times in ((4, 3), (5, 1), (6, 1))}
    assert {site.split(" ")[0]: times for site, times in sites.items()} == lines
    assert any("_local_scalar_dense" in site for site in sites)
    assert any("nonzero" in site for site in sites)


def _read_unknown_values() -> dict[str, int]:
    with TrueValues() as values:
        noise = torch.randn(4, device="cuda")
        for _ in range(3):
            bool(noise.sum() > 0)
        (noise > 0).nonzero()
        noise[noise > 0]
        return dict(values.unknown_reads.sites)


def _masked_loss(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A loss that looks at a mask on the way forward, and again when it is computed anew."""
    mask = torch.arange(x.shape[0], device=x.device) < 3
    assert bool(mask.any()), "the mask was read wrongly"
    assert not bool(mask.all()), "the mask was read wrongly"
    return (x[mask] @ weight).sum()


@pytest.mark.parametrize("reentrant", [True, False])
def test_values_are_true_in_a_checkpoints_recomputation(
    virtual_gpu: WarmMachines, *, reentrant: bool
) -> None:
    assert virtual_gpu("rtx-4090", _recompute, reentrant) == [[8, 4], 0]


def _recompute(reentrant: bool) -> list[Any]:
    from torch.utils.checkpoint import checkpoint

    with TrueValues() as values:
        x = torch.randn(8, 4, device="cuda", requires_grad=True)
        weight = torch.randn(4, 2, device="cuda", requires_grad=True)
        checkpoint(_masked_loss, x, weight, use_reentrant=reentrant).backward()
        assert x.grad is not None
        return [list(x.grad.shape), values.unknown_reads.total]


def test_values_are_true_in_a_backward_pass(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _go_backward) == [[[3, 2]], 0]


def _go_backward() -> list[Any]:
    seen = []

    class Looks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(lengths)
            return x * 2

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
            (lengths,) = ctx.saved_tensors
            seen.append((lengths + 1).tolist())
            return gradients[0] * 2, None

    with TrueValues() as values:
        x = torch.randn(2, device="cuda", requires_grad=True)
        apply: Callable[..., torch.Tensor] = Looks.apply
        apply(x, torch.tensor([2, 1], device="cuda")).sum().backward()
        return [seen, values.unknown_reads.total]


def test_a_boolean_mask_decides_how_much_memory_its_selection_takes(virtual_gpu: WarmMachines) -> None:
    on_first, on_none = virtual_gpu("rtx-4090", _select_by_mask)
    assert on_first == 3 * 4096 * 4
    assert on_none == 0


def _select_by_mask() -> list[int]:
    sizes = []
    with TrueValues():
        for limit in (3, 0):
            rows = torch.randn(8, 4096, device="cuda")
            mask = torch.arange(8, device="cuda") < limit
            before = torch.cuda.memory_allocated()
            selected = rows[mask]
            assert selected.shape == (limit, 4096)
            sizes.append(torch.cuda.memory_allocated() - before)
            del selected
    return sizes


def test_values_of_the_second_card_are_its_own(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _use_two_cards, count=2) == [[0, 1, 2], [3, 4, 5], "cuda:1"]


def _use_two_cards() -> list[Any]:
    with TrueValues():
        first = torch.arange(3, device="cuda:0")
        second = first.to("cuda:1") + 3
        return [first.tolist(), second.tolist(), str(second.device)]


def test_an_output_that_is_an_input_too_is_computed_from_what_it_held(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _write_onto_an_input) == [[1, 2, 3], 0]


def _write_onto_an_input() -> list[Any]:
    with TrueValues() as values:
        table = torch.arange(3, device="cuda")
        torch.add(table, 1, out=table)
        return [table.tolist(), values.unknown_reads.total]


def test_assigning_one_value_by_a_mask_makes_no_positions(virtual_gpu: WarmMachines) -> None:
    # torch fills instead, so that even a mask which is not known is not read.
    assert virtual_gpu("rtx-4090", _assign_by_mask) == {
        "known": [0, 0, 7, 7],
        "allocations": 0,
        "unknown_reads": 0,
    }


def _assign_by_mask() -> dict[str, Any]:
    with TrueValues() as values:
        table, scores = torch.zeros(4, dtype=torch.long, device="cuda"), torch.randn(4, device="cuda")
        mask, unknown_mask = torch.arange(4, device="cuda") > 1, scores > 0
        torch.cuda.reset_accumulated_memory_stats()
        table[mask] = 7
        scores[unknown_mask] = 0.0
        allocations = torch.cuda.memory_stats()["allocation.all.allocated"]
        return {
            "known": table.tolist(),
            "allocations": allocations,
            "unknown_reads": values.unknown_reads.total,
        }


def test_tensors_that_wrap_others_keep_the_values_of_what_they_hold(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _wrap) == [[1, 2, 3], [1, 2, 3], 0]


def _wrap() -> list[Any]:
    from torch.testing._internal.two_tensor import TwoTensor

    with TrueValues() as values:
        pair: Any = TwoTensor(torch.arange(3, device="cuda"), torch.arange(3, device="cuda")) + 1
        return [pair.a.tolist(), pair.b.tolist(), values.unknown_reads.total]


def test_a_sparse_tensor_is_not_followed_and_what_counts_it_is_told(virtual_gpu: WarmMachines) -> None:
    counted, read = virtual_gpu("rtx-4090", _make_sparse)
    assert counted == ["_to_sparse", "_to_sparse_csr", "_coalesce"]
    assert read == [0, 1, 1]


def _make_sparse() -> list[Any]:
    with TrueValues() as values:
        table = torch.tensor([[0, 1], [2, 0]], device="cuda")
        table.to_sparse()
        table.to_sparse_csr()
        places = torch.tensor([[0, 1, 1]], device="cuda")
        pairs = torch.sparse_coo_tensor(places, torch.tensor([3, 4, 5], device="cuda"), (2,))
        pairs.coalesce()
        pairs.cpu()
        counted = [site.rpartition("(")[2].rstrip(")") for site in values.unknown_reads.decisions]
        return [counted[:3], places[0].tolist()]


def test_integers_outlive_a_deep_copy_and_come_out_of_a_checkpoint(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _copy_storages) == [[0, 1, 2], [3, 4, 5], [0, 1, 2], [1.5, 2.5], 0, 0]


def _copy_storages() -> list[Any]:
    large = torch.rand(32 << 10)
    with TrueValues() as values:
        counts = torch.arange(3, device="cuda")
        copied = copy.deepcopy(counts)
        counts += 3
        file = io.BytesIO()
        torch.save({"counts": copied.cpu(), "few": torch.tensor([1.5, 2.5]), "large": large}, file)
        file.seek(0)
        loaded = torch.load(file, map_location="cuda")
        told = [copied.tolist(), counts.tolist(), loaded["counts"].tolist(), loaded["few"].tolist()]
        return [*told, int(values.known.has(loaded["large"])), values.unknown_reads.total]


def test_whether_tensors_are_close_is_known_of_known_ones_only(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _compare_closely) == [True, False, 0, False, 1]


def _compare_closely() -> list[Any]:
    with TrueValues() as values:
        three, known = torch.full((3,), 3, device="cuda"), values.unknown_reads
        unknown = (torch.rand(3, device="cuda") > 0).long()
        told = [torch.allclose(three, three), torch.allclose(three, three + 1), known.decisions.total()]
        return [*told, torch.allclose(three, unknown), known.decisions.total()]


def test_checks_of_distributions_are_passed(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _draw_from_a_distribution) == [[3], [3], 0, False, 1]


def _draw_from_a_distribution() -> list[Any]:
    with TrueValues() as values:
        unknown = torch.rand(3, device="cuda")
        drawn = torch.distributions.Normal(unknown, unknown).rsample()
        accepted = torch.distributions.VonMises(unknown, unknown).sample()  # draws until all are accepted
        told = [list(drawn.shape), list(accepted.shape), values.unknown_reads.total]
        return [*told, bool((unknown > 0).all()), values.unknown_reads.decisions.total()]
