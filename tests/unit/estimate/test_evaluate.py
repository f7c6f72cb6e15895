from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.estimate.evaluate import evaluate_jobs, group_jobs
from profiler.formula.breakdown import shape_of
from profiler.formula.catalogue import find_formula
from profiler.formula.configs import architecture_of
from tests.builders import a_job
from tests.unit.fit.made_up import MADE_UP

if TYPE_CHECKING:
    from profiler.jobs.job import JobSpec

JOBS = st.lists(
    st.builds(
        a_job,
        model=st.sampled_from(["smollm2-135m", "llama-3.1-8b"]),
        method=st.sampled_from(["full", "lora", "qlora"]),
        batch_size=st.integers(1, 8),
        seq_len=st.sampled_from([128, 1024, 4096]),
        gradient_checkpointing=st.booleans(),
    ),
    max_size=12,
)


@settings(deadline=None)  # the first call loads numpy
@given(JOBS)
def test_many_jobs_are_evaluated_as_each_alone(jobs: list[JobSpec]) -> None:
    evaluated = evaluate_jobs(MADE_UP, jobs)
    assert evaluated.term_bytes.shape == (len(jobs), len(evaluated.instants), len(evaluated.terms))
    assert evaluated.term_bytes.dtype == np.int64
    for position, job in enumerate(jobs):
        if job.method.kind == "qlora":
            assert evaluated.refused[position] == "it knows nothing of 4 bits"
            assert not evaluated.term_bytes[position].any()
            continue
        alone = MADE_UP.evaluate(job, architecture_of(job.model), shape_of(job))
        together = {
            (instant, term): int(evaluated.term_bytes[position, at, which])
            for at, instant in enumerate(evaluated.instants)
            for which, term in enumerate(evaluated.terms)
        }
        expected = {
            (instant.name, term): n for instant in alone.instants for term, n in instant.terms.items()
        }
        assert {name: n for name, n in together.items() if n} == {
            name: n for name, n in expected.items() if n
        }


@pytest.mark.parametrize(
    "changes",
    [{"model": "smollm2-135m"}, {"method": "lora"}, {"optimizer": "sgd"}, {"gpu": "a100-80gb"}, {"steps": 1}],
)
def test_jobs_that_differ_in_more_than_the_batch_are_apart(changes: dict[str, Any]) -> None:
    [together] = group_jobs([a_job(), a_job(batch_size=2), a_job(seq_len=512)])
    assert together.positions.tolist() == [0, 1, 2]
    assert np.asarray(together.shape.tokens).tolist() == [2048, 4096, 512]
    assert len(group_jobs([a_job(), a_job(**changes)])) == 2


def test_a_model_that_is_not_known_is_a_refusal() -> None:
    evaluated = evaluate_jobs(MADE_UP, [a_job(method="full"), a_job(method="full", model="./nowhere")])
    assert list(evaluated.refused) == [1]
    assert "nowhere" in evaluated.refused[1]
    assert evaluated.of(np.array([0])).term_bytes.shape[0] == 1


def test_our_own_formula_evaluates_many_jobs_as_each_alone() -> None:
    formula = find_formula("peakvram")
    jobs = [
        a_job(model="qwen2.5-0.5b", method=method, batch_size=batch, gradient_checkpointing=checkpointing)
        for method in ("full", "lora", "qlora")
        for checkpointing in (True, False)
        for batch in (1, 4)
    ]
    breakdown = evaluate_jobs(formula, jobs).as_breakdown()
    alone = [formula.evaluate(job, architecture_of(job.model), shape_of(job)).peak_bytes for job in jobs]
    assert np.asarray(breakdown.peak_bytes).tolist() == alone
