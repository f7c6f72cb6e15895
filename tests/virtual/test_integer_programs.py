"""Whatever a program does with integers and booleans, the virtual card holds what the CPU computes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from profiler.virtual.values import TrueValues
from tests.virtual.integer_programs import OPERATIONS, Step, is_integral, programs, run_step, starting_pool

if TYPE_CHECKING:
    from tests.virtual.harness import WarmMachines


@pytest.mark.parametrize("alloc_conf", ["", "expandable_segments:True"])
def test_a_random_program_gives_the_same_values_as_on_the_cpu(
    virtual_gpu: WarmMachines, alloc_conf: str
) -> None:
    seen = virtual_gpu("rtx-4090", _compare_programs, 600, alloc_conf=alloc_conf)
    assert seen["unknown_reads"] == {}
    assert seen["num_steps"] > 2000
    assert seen["num_operations"] > 100
    assert seen["known_after"] == 0
    assert seen["inexact"] == {}


def _compare_programs(max_examples: int) -> dict[str, Any]:
    num_steps, ran = 0, set()
    values = TrueValues()

    @settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(program=programs())
    def compare(program: list[Step]) -> None:
        nonlocal num_steps
        on_cpu = starting_pool("cpu")
        with values:
            on_card = starting_pool("cuda")
            for step in program:
                before = [tensor.clone() for tensor in on_cpu]
                try:
                    run_step(step, on_cpu)
                except (RuntimeError, IndexError, ValueError):
                    # It may have written before it failed; the card never sees it.
                    for tensor, old in zip(on_cpu, before, strict=True):
                        if not torch.equal(tensor, old):
                            return
                    continue
                run_step(step, on_card)
                ran.add(step.operation)
                num_steps += 1
            for expected, found in zip(on_cpu, on_card, strict=True):
                assert found.is_cuda
                assert found.dtype == expected.dtype
                assert not is_integral(expected) or found.tolist() == expected.tolist(), expected

    compare()
    return {
        "num_steps": num_steps,
        "num_operations": len(ran),
        "unknown_reads": dict(values.unknown_reads.sites),
        "known_after": len(values.known),
        "inexact": dict(values.inexact),
    }


def test_every_operation_gives_the_values_of_the_cpu(virtual_gpu: WarmMachines) -> None:
    seen = virtual_gpu("rtx-4090", _compare_every_operation)
    assert seen["wrong"] == {}
    assert seen["never_ran"] == []


def _compare_every_operation() -> dict[str, Any]:
    wrong, ran = {}, set()
    with TrueValues():
        for name, first, second in itertools.product(OPERATIONS, range(5), range(5)):
            step = Step(name, (first, second, first), (1, 2, 3))
            on_cpu, on_card = starting_pool("cpu"), starting_pool("cuda")
            try:
                run_step(step, on_cpu)
            except (RuntimeError, IndexError, ValueError):
                continue
            run_step(step, on_card)
            ran.add(name)
            found, expected = [[t.tolist() for t in pool] for pool in (on_card, on_cpu)]
            if found != expected:
                wrong[f"{name} of {first}, {second}"] = [found, expected]
    return {"wrong": wrong, "never_ran": sorted(OPERATIONS.keys() - ran)}
