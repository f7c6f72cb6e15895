from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.hardware_guide import HARDWARE_GUIDE_FLOOR, HARDWARE_GUIDE_STATIC, static_bytes
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, gigabytes


@pytest.mark.parametrize(("billions", "gb"), [(7, 3.5), (70, 35)])
def test_static_memory_is_the_one_worked_out(billions: int, gb: float) -> None:
    assert static_bytes(billions * 10**9) == gb * 10**9


@pytest.mark.parametrize(("model", "gb"), [("llama-2-7b", 12), ("llama-2-13b", 24), ("llama-3.1-70b", 48)])
def test_the_floor_is_the_one_of_the_table(model: str, gb: int) -> None:
    assert gigabytes(HARDWARE_GUIDE_FLOOR, a_tuning("qlora"), architecture_of(model)) == gb


def test_it_speaks_of_qlora_alone() -> None:
    refusal = HARDWARE_GUIDE_STATIC.refusal(a_tuning("lora"), LLAMA_2_7B)
    assert refusal == "it speaks of qlora, not of lora"
