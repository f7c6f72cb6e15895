"""Which answer passes the check that reads a flag."""

from __future__ import annotations

import sys
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import pytest
import torch

from profiler.virtual.checks import passing_answer

if TYPE_CHECKING:
    from collections.abc import Callable


class Flag:
    """Reads as a tensor of one element does, and remembers which answer passes."""

    def __init__(self) -> None:
        self.answers: list[bool | None] = []

    def __bool__(self) -> bool:
        self.answers.append(passing_answer(sys._getframe(1)))
        return bool(self.answers[-1])

    def item(self) -> bool:
        """The flag as Python's."""
        self.answers.append(passing_answer(sys._getframe(1)))
        return bool(self.answers[-1])


def _raises_unless(x: Flag) -> None:
    if not x:
        raise ValueError("not positive")


def _raises_if(x: Flag) -> None:
    if x:
        raise ValueError(f"negative: {len(x.answers) or 'none'}")


def _asserts(x: Flag) -> None:
    assert x, "not positive"


def _asserts_not(x: Flag) -> None:
    assert not x.item()


def _asserts_both(x: Flag) -> None:
    assert x.item()
    assert x


def _raises_unless_both(x: Flag) -> None:
    if not (x and x.item()):
        raise ValueError


def _raises_if_either(x: Flag) -> None:
    if x or x:
        raise ValueError


def _raises_at_the_end(x: Flag) -> int:
    if x:
        return 1
    raise ValueError


def _names_it(x: Flag) -> None:
    is_positive = x.item()
    if not is_positive:
        raise ValueError


def _converts_it(x: Flag) -> None:
    if not bool(x.item()):
        raise ValueError


def _asks_a_helper(x: Flag) -> None:
    if not _helper(x):
        raise ValueError


def _helper(x: Flag) -> bool:
    return x.item()


def _asks_a_helper_that_negates(x: Flag) -> None:
    assert not _negating(x)


def _negating(x: Flag) -> bool:
    return not x.item()


def _raises_within_with(x: Flag) -> None:
    with nullcontext():
        if not x:
            raise ValueError


def _raises_within_finally(x: Flag) -> None:
    try:
        if not x:
            raise ValueError
    finally:
        str(x.answers)


def _hands_it_to_torch(x: Flag) -> None:
    torch._check(x.item())
    torch._check_value(x.item(), lambda: f"not positive: {x}")
    torch._check(cond=x.item(), message="not positive")


def _hands_its_negation_to_torch(x: Flag) -> None:
    torch._check(not x.item(), lambda: "negative")


def _raises_after_a_message(x: Flag) -> None:
    if not x:
        message = "long" if len(x.answers) > 3 else "short"
        str(message)
        raise ValueError(message)


@pytest.mark.parametrize(
    ("check", "answers"),
    [
        (_raises_unless, [True]),
        (_raises_if, [False]),
        (_asserts, [True]),
        (_asserts_not, [False]),
        (_asserts_both, [True, True]),
        (_raises_unless_both, [True, True]),
        (_raises_if_either, [False, False]),
        (_raises_at_the_end, [True]),
        (_names_it, [True]),
        (_converts_it, [True]),
        (_asks_a_helper, [True]),
        (_asks_a_helper_that_negates, [True]),
        (_raises_within_with, [True]),
        (_raises_within_finally, [True]),
        (_hands_it_to_torch, [True, True, True]),
        (_hands_its_negation_to_torch, [False]),
        (_raises_after_a_message, [True]),
    ],
)
def test_a_flag_that_leads_to_an_error_passes(
    check: Callable[[Flag], object], answers: list[bool | None]
) -> None:
    flag = Flag()
    check(flag)
    assert flag.answers == answers


def _branches(x: Flag) -> int:
    return 1 if x else 2


def _waits(x: Flag) -> None:
    for _ in range(3):
        if x:
            break
    else:
        raise ValueError


def _handles_its_own(x: Flag) -> None:
    try:
        if not x:
            raise ValueError
    except ValueError:
        pass


def _handles_all(x: Flag) -> None:
    try:
        if not x:
            raise ValueError
    except:  # noqa: E722 - another kind of handler
        pass


def _stops_an_iteration(x: Flag) -> None:
    if not x:
        raise StopIteration


def _may_raise(x: Flag) -> None:
    if not x and len(x.answers) > 3:
        raise ValueError


def _raises_anyway(x: Flag) -> None:
    if x:
        raise ValueError
    raise TypeError


def _passes_it_on(x: Flag) -> None:
    if str(x.item()) == "":
        raise ValueError


def _hands_it_to_another(x: Flag) -> None:
    torch.tensor(x.item())
    torch.full((2,), x.item(), dtype=torch.bool)
    torch._check(len(str(x.item())) > 3)


def _keeps_it(x: Flag) -> list[bool]:
    return [x.item()]


@pytest.mark.parametrize(
    "ask",
    [
        *(_branches, _waits, _handles_its_own, _handles_all, _stops_an_iteration, _may_raise),
        *(_raises_anyway, _passes_it_on, _keeps_it, _hands_it_to_another),
    ],
)
def test_a_flag_that_decides_of_anything_else_has_no_answer(ask: Callable[[Flag], object]) -> None:
    flag = Flag()
    with suppress(ValueError, TypeError, StopIteration):
        ask(flag)
    assert set(flag.answers) == {None}


def test_nobody_who_asks_needs_no_answer() -> None:
    assert passing_answer(None) is None
