"""What a virtual card takes for true of floating-point values that nobody knows, and that it says so."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch

from profiler.virtual.routing import Routing
from profiler.virtual.values import TrueValues

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines


def test_unknown_numbers_are_finite(virtual_gpu: WarmMachines) -> None:
    answers, num_unknown = virtual_gpu("rtx-4090", _look_for_odd_numbers)
    assert answers == {
        "isnan": False,
        "isinf": False,
        "isposinf": False,
        "isneginf": False,
        "isfinite": True,
        "equals itself": True,
    }
    assert num_unknown == 0


def _look_for_odd_numbers() -> Any:
    with TrueValues() as values:
        x = torch.randn(100, device="cuda")
        answers = {
            name: bool(getattr(torch, name)(x).any())
            for name in ("isnan", "isinf", "isposinf", "isneginf", "isfinite")
        }
        answers["equals itself"] = bool((x == x).all())  # noqa: PLR0124 - a way to look for NaN
        return answers, values.unknown_reads.total


def test_a_known_value_is_not_assumed_to_be_finite(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _look_at_known) == [[False, True], [True, False]]


def _look_at_known() -> Any:
    with TrueValues():
        x = torch.tensor([1.0, float("nan")]).to("cuda")
        return [torch.isnan(x).tolist(), torch.isfinite(x).tolist()]


@pytest.mark.parametrize("is_trained", [False, True])
@pytest.mark.parametrize("routing", list(Routing))
def test_a_router_chooses_different_experts_for_one_token(
    virtual_gpu: WarmMachines, routing: Routing, *, is_trained: bool
) -> None:
    chosen, counts, sites = virtual_gpu("rtx-4090", _route, str(routing), is_trained)
    assert all(len(set(row)) == 2 for row in chosen)
    assert counts == ([6, 6, 6, 6] if routing is Routing.EVEN else [12, 12, 0, 0])
    assert list(sites.values()) == [1]


def _route(routing: str, is_trained: bool) -> Any:
    with TrueValues(routing=Routing(routing)) as values:
        scores = torch.randn(12, 4, device="cuda", requires_grad=is_trained)
        chosen = scores.softmax(-1).topk(2, dim=-1).indices
        counts = torch.bincount(chosen.flatten(), minlength=4)
        assert values.unknown_reads.total == 0
        return chosen.tolist(), counts.tolist(), dict(values.assumed)


def test_the_next_token_is_neither_of_the_ends_of_the_vocabulary(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _choose) == [[500, 500, 500], [[500], [500], [500]], 0]


def _choose() -> Any:
    with TrueValues(routing=Routing.EVEN) as values:
        scores = torch.randn(3, 1000, device="cuda")
        greedy, drawn = scores.argmax(-1), torch.multinomial(scores.softmax(-1), 1)
        return [greedy.tolist(), drawn.tolist(), values.unknown_reads.total]


def test_without_a_routing_every_choice_is_unknown(virtual_gpu: WarmMachines) -> None:
    decisions = virtual_gpu("rtx-4090", _choose_unknown)
    assert len(decisions) == 3
    assert all("test_assumptions.py" in site for site in decisions)


def _choose_unknown() -> Any:
    with TrueValues() as values:
        scores = torch.randn(3, 1000, device="cuda")
        scores.topk(2).indices.tolist()
        scores.argmax(-1).tolist()
        (scores > 0).nonzero()
        scores.tolist()  # no size and no branch follows from it
        assert values.unknown_reads.total == 4
        return dict(values.unknown_reads.decisions)


@pytest.mark.parametrize("is_default", [False, True])
def test_a_check_of_unknown_values_passes_where_it_else_raises_and_is_listed(
    virtual_gpu: WarmMachines, *, is_default: bool
) -> None:
    assumed, num_unknown = virtual_gpu("rtx-4090", _check, is_default)
    first = _check_validity.__code__.co_firstlineno
    assert num_unknown == 0
    assert [int(site.rpartition(":")[2]) - first for site in assumed] == [1, 3, 4, 5, 6, 8, 10, 11, 12]
    assert set(assumed.values()) == {1}


def _check(is_default: bool) -> Any:
    with TrueValues() as values:
        x, y = torch.randn(3, device="cuda"), torch.randn(3, device="cuda")
        with torch.device("cuda") if is_default else nullcontext():
            _check_validity(x, y)
        return dict(values.assumed), values.unknown_reads.total


def _check_validity(x: torch.Tensor, y: torch.Tensor) -> None:
    if not (x >= y).all():
        raise ValueError("out of order")
    assert (x > 0).all().item()
    assert torch.equal(x, y)
    assert torch.allclose(x, y)
    if torch.any(x < 0):
        raise ValueError("negative")
    torch._assert((x > 0).all(), "negative")
    torch._assert_async((x > 0).all())  # the card would say so
    torch._check_tensor_all(x > 0)
    torch.distributions.Poisson(x.exp(), validate_args=True)
    torch._check(bool((x > 0).all().item()), lambda: "negative")


def test_what_else_depends_on_a_flag_stays_a_read(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _branch) == [[], 2]


def _branch() -> list[Any]:
    with TrueValues() as values:
        x = torch.randn(3, device="cuda")
        if (x > 0).all():
            x = x * 2
        try:
            if not (x > 0).all():
                raise ValueError("negative")
        except ValueError:
            x = x.abs()
        return [list(values.assumed), values.unknown_reads.decisions.total()]


def test_a_known_value_is_checked_in_truth(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _check_known) == ["negative", {}]


def _check_known() -> list[Any]:
    with TrueValues() as values:
        x = torch.tensor([1, -1], device="cuda")
        try:
            if not (x > 0).all():
                raise ValueError("negative")
        except ValueError as error:
            return [str(error), dict(values.assumed)]
        return []


def test_weights_are_drawn_without_a_read(virtual_gpu: WarmMachines) -> None:
    assert virtual_gpu("rtx-4090", _initialize) == [0, 0]


def _initialize() -> list[int]:
    from torch.nn import init

    with TrueValues() as values, torch.device("cuda"):
        init.trunc_normal_(torch.empty(8, 8), std=0.02)
        init.trunc_normal_(torch.empty(8, 8), a=2.0, b=3.0)  # another way of torch 2.14's
        for draw in (init.orthogonal_, init.xavier_uniform_, init.kaiming_normal_, init.eye_):
            draw(torch.empty(8, 8))
        init.sparse_(torch.empty(8, 8), 0.1)
        init.dirac_(torch.empty(3, 3, 3))
        return [values.unknown_reads.total, values.assumed.total()]
