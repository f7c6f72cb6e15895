from __future__ import annotations

import json
from typing import Any

from profiler.estimate.factors import default_factors
from profiler.formula.configs import NOT_AT_HAND
from profiler.hardware.catalogue import load_catalogue
from profiler.report.page.browser_formula import browser_formula, kind_of
from tests.builders import a_job
from tests.studies import METHODS, MODELS, study_records

JOBS = [record.spec for record in study_records()]


def data_of(*jobs: Any) -> dict[str, Any]:
    return json.loads(json.dumps(browser_formula(jobs, default_factors()).data))  # type: ignore[no-any-return]


def test_jobs_that_differ_in_batch_length_and_card_are_one_kind() -> None:
    calculator = browser_formula(JOBS, default_factors())
    assert len(calculator.places) == len(MODELS) * len(METHODS)
    assert kind_of(a_job(batch_size=7, seq_len=9, gpu="l4")) == kind_of(a_job())


def test_every_card_of_the_catalogue_can_be_chosen() -> None:
    data = data_of(*JOBS)
    assert [card["id"] for card in data["cards"]] == list(load_catalogue())
    # cuBLAS takes a larger workspace from Hopper on: of two sorts of cards the formula says different things.
    alike = {card["id"]: card["alike"] for card in data["cards"]}
    assert alike["rtx-4090"] == alike["a100-80gb"] != alike["h100-80gb"] == alike["b200"]
    assert all(len(kind["cards"]) == 2 for kind in data["kinds"])


def test_a_kind_that_the_formula_refuses_is_left_out_with_the_reason() -> None:
    jobs = [a_job(), a_job(model="no-such-model"), a_job(model="some/model")]
    calculator = browser_formula(jobs, default_factors())
    assert list(calculator.places) == [kind_of(jobs[0])]
    assert "no-such-model" in calculator.refused[kind_of(jobs[1])]
    assert calculator.refused[kind_of(jobs[2])] == NOT_AT_HAND


def test_nothing_is_said_twice() -> None:
    data = data_of(*JOBS)
    for name in ("terms", "instants"):
        assert len(set(data[name])) == len(data[name])
    quantities = [json.dumps(quantity) for quantity in data["quantities"]]
    assert len(set(quantities)) == len(quantities)


def test_without_factors_the_bare_formula_is_there() -> None:
    bare = default_factors().model_copy(update={"formulas": {}})
    data = json.loads(json.dumps(browser_formula([a_job()], bare).data))
    assert data["kinds"][0]["factors"] == [-1, -1, -1]
