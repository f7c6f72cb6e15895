from __future__ import annotations

from profiler.formula.catalogue import all_formulas
from profiler.formula.speaking import formulas_of
from profiler.jobs.job import METHODS


def test_our_formula_speaks_of_every_method_of_a_family_that_is_followed_whole() -> None:
    spoken = formulas_of("llama-3.1-8b")
    assert spoken["peakvram"] == tuple(METHODS)
    assert set(spoken) <= {formula.id for formula in all_formulas()}


def test_a_method_that_a_formula_refuses_is_left_out() -> None:
    assert formulas_of("phi-2")["peakvram"] == ("full", "lora", "qlora", "int8-lora")


def test_a_family_that_is_described_only_is_left_to_others() -> None:
    spoken = formulas_of("qwen3.5-4b")
    assert "peakvram" not in spoken
    assert spoken


def test_nobody_speaks_of_a_family_that_is_not_described() -> None:
    assert formulas_of("llama-4-scout") == {}
