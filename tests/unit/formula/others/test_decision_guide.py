from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.decision_guide import (
    DECISION_GUIDE_BUDGET,
    DECISION_GUIDE_RULE,
    DECISION_GUIDE_TABLE,
)
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, gigabytes, terms_of


@pytest.mark.parametrize(
    ("model", "figures"),
    [
        ("llama-2-7b", {"full": 67, "lora": 15, "int8-lora": 9, "qlora": 5}),
        ("llama-2-13b", {"full": 125, "lora": 28, "int8-lora": 17, "qlora": 9}),
        ("llama-3.1-70b", {"full": 672, "lora": 146, "int8-lora": 88, "qlora": 46}),
    ],
)
def test_the_table_gives_its_own_figures(model: str, figures: dict[str, int]) -> None:
    architecture = architecture_of(model)
    found = {kind: gigabytes(DECISION_GUIDE_TABLE, a_tuning(kind), architecture) for kind in figures}
    assert found == figures


def test_the_table_is_not_about_mixtures() -> None:
    refusal = DECISION_GUIDE_TABLE.refusal(a_tuning("full"), architecture_of("mixtral-8x7b"))
    assert "mixture" in (refusal or "")


@pytest.mark.parametrize(("optimizer", "per_parameter"), [("adamw_torch", 16), ("paged_adamw_8bit", 10)])
def test_the_rule_takes_the_end_that_its_optimizer_names(optimizer: str, per_parameter: int) -> None:
    rule = terms_of(DECISION_GUIDE_RULE, a_tuning("full", optimizer=optimizer))["rule"]
    assert rule == per_parameter * LLAMA_2_7B.num_parameters


@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd"}, {"optimizer": "adamw_bnb_8bit", "gradient_checkpointing": False}]
)
def test_the_rule_has_no_figure_between_its_ends(changes: dict[str, object]) -> None:
    assert DECISION_GUIDE_RULE.refusal(a_tuning("full", **changes), LLAMA_2_7B) is not None


def test_the_budget_is_four_times_the_weights() -> None:
    terms = terms_of(DECISION_GUIDE_BUDGET, a_tuning("full", precision="bf16"))
    weights = 2 * LLAMA_2_7B.num_parameters
    assert terms == {"weights": weights, "gradients": weights, "optimizer": 2 * weights}
