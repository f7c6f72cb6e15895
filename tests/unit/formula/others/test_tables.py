from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from profiler.errors import ConfigError
from profiler.formula.catalogue import find_formula
from profiler.formula.configs import architecture_of
from profiler.formula.others.facts import num_adapter_parameters
from profiler.formula.others.tables import load_tables
from profiler.jobs.job import Lora
from tests.builders import a_job
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, gigabytes, terms_of

if TYPE_CHECKING:
    from pathlib import Path

MISTRAL = architecture_of("mistral-7b-v0.1")
A_FILE = """
publications:
  - title: a guide
    about: what it says
    formulas:
      - id: guide
        title: a guide's rule
        place: page 3
        predicts: weights
        methods: [{methods}]
        terms:
          weights: {{about: half a byte, unit: {unit}, coefficients: [{{value: {value}}}]}}
"""


def a_file(directory: Path, **changes: str) -> Path:
    path = directory / "formulas.yaml"
    given = {"methods": "full", "unit": "bytes a parameter", "value": "1/2"} | changes
    path.write_text(A_FILE.format(**given))
    return path


def test_a_file_gives_its_formulas_with_their_source(tmp_path: Path) -> None:
    (formula,) = load_tables(a_file(tmp_path))
    assert (formula.id, formula.source) == ("guide", "a guide, page 3")
    assert formula.terms == {"weights": "half a byte"}
    assert formula.refusal(a_tuning("lora"), LLAMA_2_7B) == "it speaks of full, not of lora"
    terms = terms_of(formula, a_tuning("full"))
    assert terms == {"weights": LLAMA_2_7B.num_parameters // 2}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"unit": "bytes a moon"}, "terms.weights.unit"),
        ({"value": "-1"}, "terms.weights.coefficients"),
        ({"value": "some"}, "terms.weights.coefficients"),
        ({"methods": ""}, "methods"),
        ({"methods": "lorra"}, "methods"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, changes: dict[str, str], place: str) -> None:
    with pytest.raises(ConfigError, match=place):
        load_tables(a_file(tmp_path, **changes))


def test_a_table_says_nothing_of_a_size_that_it_has_not(tmp_path: Path) -> None:
    (formula,) = load_tables(a_file(tmp_path, unit="GB", value="{7: 5, 70: 46}"))
    assert formula.refusal(a_tuning("full"), LLAMA_2_7B) is None
    refusal = formula.refusal(a_tuning("full"), architecture_of("llama-2-13b"))
    assert refusal == "its table has full of 7B, 70B, not of 13.0B"


class TestTheTableOfComponents:
    LOW, HIGH = find_formula("component-table-7b-low"), find_formula("component-table-7b-high")

    def test_a_thousand_tokens_take_the_half_gigabyte_of_the_table(self) -> None:
        terms = terms_of(self.LOW, a_tuning("full", batch_size=1, seq_len=1000))
        assert terms["kv_cache"] / 1e9 == pytest.approx(0.5, abs=0.03)  # "0.5-1 GB per 1k"

    @pytest.mark.parametrize(
        ("kind", "low", "high"),
        # Its typical peaks at batch 1 and 2,048 tokens: 65-90+, 18-30, 9-18 GB. Only the first agrees.
        [("full", 66.1, 90.1), ("lora", 24.2, 45.6), ("qlora", 12.1, 27.6)],
    )
    def test_the_rows_add_up(self, kind: str, low: float, high: float) -> None:
        job = a_tuning(kind, seq_len=2048)
        assert gigabytes(self.LOW, job) == pytest.approx(low, abs=0.05)
        assert gigabytes(self.HIGH, job) == pytest.approx(high, abs=0.05)

    def test_the_high_end_is_nowhere_below_the_low_end(self) -> None:
        for kind in ("full", "lora", "qlora"):
            low, high = (terms_of(formula, a_tuning(kind)) for formula in (self.LOW, self.HIGH))
            assert all(low[row] <= high[row] for row in low)

    def test_another_size_is_refused(self) -> None:
        assert self.LOW.refusal(a_tuning("full"), architecture_of("gpt2")) is not None


class TestTheDecisionGuide:
    TABLE, RULE = find_formula("decision-guide-table"), find_formula("decision-guide-rule")

    @pytest.mark.parametrize(
        ("model", "figures"),
        [
            ("llama-2-7b", {"full": 67, "lora": 15, "int8-lora": 9, "qlora": 5}),
            ("llama-2-13b", {"full": 125, "lora": 28, "int8-lora": 17, "qlora": 9}),
            ("llama-3.1-70b", {"full": 672, "lora": 146, "int8-lora": 88, "qlora": 46}),
        ],
    )
    def test_the_table_gives_its_own_figures(self, model: str, figures: dict[str, int]) -> None:
        architecture = architecture_of(model)
        found = {kind: gigabytes(self.TABLE, a_tuning(kind), architecture) for kind in figures}
        assert found == figures

    def test_the_table_is_not_about_mixtures(self) -> None:
        refusal = self.TABLE.refusal(a_tuning("full"), architecture_of("mixtral-8x7b"))
        assert "mixture" in (refusal or "")

    @pytest.mark.parametrize(("optimizer", "per_parameter"), [("adamw_torch", 16), ("paged_adamw_8bit", 10)])
    def test_the_rule_takes_the_end_that_its_optimizer_names(
        self, optimizer: str, per_parameter: int
    ) -> None:
        rule = terms_of(self.RULE, a_tuning("full", optimizer=optimizer))["rule"]
        assert rule == per_parameter * LLAMA_2_7B.num_parameters

    @pytest.mark.parametrize(
        "changes", [{"optimizer": "sgd"}, {"optimizer": "adamw_bnb_8bit", "gradient_checkpointing": False}]
    )
    def test_the_rule_has_no_figure_between_its_ends(self, changes: dict[str, object]) -> None:
        assert self.RULE.refusal(a_tuning("full", **changes), LLAMA_2_7B) is not None

    def test_the_budget_is_four_times_the_weights(self) -> None:
        terms = terms_of(find_formula("decision-guide-budget"), a_tuning("full", precision="bf16"))
        weights = 2 * LLAMA_2_7B.num_parameters
        assert terms == {"weights": weights, "gradients": weights, "optimizer": 2 * weights}


class TestTheFineTuningGuide:
    GUIDE = find_formula("fine-tuning-guide")

    def test_full_fine_tuning_adds_up_to_its_104_gb(self) -> None:
        terms = terms_of(self.GUIDE, a_tuning("full", batch_size=4), MISTRAL)
        own = MISTRAL.num_parameters  # the guide counts 7 billion
        parts = [terms[name] * 7 / own for name in ("weights", "gradients", "optimizer")]
        assert parts == pytest.approx([14, 28, 56])
        assert terms["activations"] == 6 * 10**9

    def test_4_bit_weights_are_its_four_and_a_half(self) -> None:
        terms = terms_of(self.GUIDE, a_tuning("qlora"), MISTRAL)
        assert terms == {"weights": 9 * MISTRAL.num_parameters // 14, "all_else": 5_500_000_000}

    def test_lora_of_rank_64_has_its_gradients_and_states(self) -> None:
        """0.7 GB and 1.4 GB, with adapters on every linear layer: the guide names no targets here."""
        assert num_adapter_parameters(MISTRAL, Lora(rank=64)) == 167_772_160
        terms = terms_of(self.GUIDE, a_tuning("lora", method_rank=64), MISTRAL)
        assert round(terms["gradients"] / 1e9, 1) == 0.7
        assert terms["optimizer"] / 1e9 == pytest.approx(1.4, abs=0.06)

    def test_lora_adds_up_to_about_its_20_gb(self) -> None:
        job = a_tuning("lora", method_rank=64, batch_size=4)
        assert gigabytes(self.GUIDE, job, MISTRAL) == pytest.approx(20, abs=0.6)

    def test_qlora_adds_up_to_the_upper_end_of_its_8_to_10_gb(self) -> None:
        assert gigabytes(self.GUIDE, a_tuning("qlora"), MISTRAL) == pytest.approx(10, abs=0.2)

    def test_activations_follow_the_batch(self) -> None:
        small, large = (terms_of(self.GUIDE, a_tuning("full", batch_size=size), MISTRAL) for size in (4, 8))
        assert large["activations"] == 2 * small["activations"]

    def test_another_size_is_refused(self) -> None:
        refusal = self.GUIDE.refusal(a_tuning("full"), architecture_of("llama-2-13b"))
        assert refusal == "it speaks of 7B, not of 13.0B"


class TestTheHardwareGuide:
    FLOOR, STATIC = find_formula("hardware-guide-floor"), find_formula("hardware-guide-static")

    def test_static_memory_is_the_one_worked_out(self) -> None:
        """3.5 GB for 7 billion parameters, 35 for 70."""
        terms = terms_of(self.STATIC, a_tuning("qlora"))
        assert terms == {"static": LLAMA_2_7B.num_parameters // 2}

    @pytest.mark.parametrize(
        ("model", "gb"), [("llama-2-7b", 12), ("llama-2-13b", 24), ("llama-3.1-70b", 48)]
    )
    def test_the_floor_is_the_one_of_the_table(self, model: str, gb: int) -> None:
        assert gigabytes(self.FLOOR, a_tuning("qlora"), architecture_of(model)) == gb

    def test_it_speaks_of_qlora_alone(self) -> None:
        refusal = self.STATIC.refusal(a_tuning("lora"), LLAMA_2_7B)
        assert refusal == "it speaks of qlora, not of lora"


class TestTheRulesOfOrbit2x:
    INFERENCE, TRAINING = find_formula("orbit2x-rule-inference"), find_formula("orbit2x-rule-training")
    TABLE = find_formula("orbit2x-table")

    @pytest.mark.parametrize(("quant", "halves"), [("none", 4), ("int8", 2), ("nf4", 1)])
    def test_inference_takes_the_gigabytes_of_the_quick_table(self, quant: str, halves: int) -> None:
        """14, 7 and 3.5 GB for 7 billion parameters."""
        terms = terms_of(self.INFERENCE, a_job(method={"kind": "inference", "quant": quant}))
        assert terms["rule"] == halves * LLAMA_2_7B.num_parameters // 2

    @pytest.mark.parametrize(("method", "gb"), [("full", 56), ("lora", 21)])
    def test_training_takes_the_rule_a_billion(self, method: str, gb: int) -> None:
        terms = terms_of(self.TRAINING, a_tuning(method))
        assert terms["rule"] == gb * LLAMA_2_7B.num_parameters // 7

    def test_cache_and_overhead_are_added(self) -> None:
        terms = terms_of(self.TRAINING, a_tuning("lora", batch_size=2, seq_len=2048))
        rule = 3 * LLAMA_2_7B.num_parameters
        assert terms == {"rule": rule, "kv_cache": 2 * 10**9, "overhead": (rule + 2 * 10**9) // 5}

    def test_inference_counts_the_generated_tokens_in_the_context(self) -> None:
        job = a_job(method={"kind": "inference", "new_tokens": 1024}, seq_len=1024)
        assert terms_of(self.INFERENCE, job)["kv_cache"] == 10**9

    def test_float32_inference_has_no_rule(self) -> None:
        job = a_job(method={"kind": "inference"}, precision="fp32")
        assert "float32" in (self.INFERENCE.refusal(job, LLAMA_2_7B) or "")

    @pytest.mark.parametrize(
        ("method", "model", "gb"),
        [
            ("lora", "tinyllama-1.1b", 4),
            ("lora", "mistral-7b-v0.3", 20),
            ("lora", "llama-2-13b", 40),
            ("lora", "llama-3.1-70b", 200),
            ("full", "llama-2-7b", 120),
            ("full", "llama-2-70b", 560),
            ("qlora", "llama-2-7b", 9),
        ],
    )
    def test_the_table_gives_its_own_figures(self, method: str, model: str, gb: int) -> None:
        assert gigabytes(self.TABLE, a_tuning(method), architecture_of(model)) == gb

    def test_the_table_refuses_a_size_it_has_not(self) -> None:
        refusal = self.TABLE.refusal(a_tuning("qlora"), architecture_of("llama-2-13b"))
        assert refusal == "its table has qlora of 7B, not of 13.0B"
