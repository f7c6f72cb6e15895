"""What a virtual card takes for true of floating-point values that nobody knows, and that it says so."""

from __future__ import annotations

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


@pytest.mark.parametrize("routing", list(Routing))
def test_a_router_chooses_different_experts_for_one_token(
    virtual_gpu: WarmMachines, routing: Routing
) -> None:
    chosen, counts, sites = virtual_gpu("rtx-4090", _route, str(routing))
    assert all(len(set(row)) == 2 for row in chosen)
    assert counts == ([6, 6, 6, 6] if routing is Routing.EVEN else [12, 12, 0, 0])
    assert list(sites.values()) == [1]


def _route(routing: str) -> Any:
    with TrueValues(routing=Routing(routing)) as values:
        chosen = torch.randn(12, 4, device="cuda").softmax(-1).topk(2, dim=-1).indices
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
