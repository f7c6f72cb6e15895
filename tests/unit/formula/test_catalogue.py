from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import ConfigError
from profiler.formula.breakdown import Breakdown, Formula, Shape
from profiler.formula.catalogue import all_formulas, find_formula
from profiler.formula.configs import architecture_of
from profiler.formula.others.facts import num_adapter_parameters
from profiler.jobs.choices import Attention
from profiler.jobs.job import Full, Inference, JobSpec
from tests.builders import a_job
from tests.unit.formula.shapes import a_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from profiler.formula.architecture import Architecture

MODELS = ("gpt2", "llama-2-7b", "mistral-7b-v0.3", "llama-2-13b", "llama-2-70b", "mixtral-8x7b")
OPTIMIZERS = ("adamw_torch", "adamw_bnb_8bit", "paged_adamw_32bit", "sgd", "adafactor")
PRECISIONS = ("fp32", "bf16", "fp16", "bf16-amp")
TRAINING = ("full", "lora", "qlora", "int8-lora")
LORA = ("lora", "qlora", "int8-lora")
BATCHES, LENGTHS = st.integers(1, 64), st.integers(2, 8192)

SIZE_7B = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
FORMULAS = all_formulas()
of_every_formula = pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.id)


@cache
def all_jobs() -> tuple[JobSpec, ...]:
    training = (
        a_job(method=kind, optimizer=optimizer, precision=precision, gradient_checkpointing=checkpointing)
        for kind, optimizer, precision, checkpointing in product(
            TRAINING, OPTIMIZERS, PRECISIONS, (True, False)
        )
    )
    inference = (
        a_job(method={"kind": "inference", "quant": quant, "new_tokens": 7}, precision=precision)
        for quant, precision in product(("none", "int8", "nf4"), PRECISIONS)
    )
    return (*training, *inference)


@cache
def accepted(formula_id: str, *models: str) -> list[tuple[JobSpec, Architecture]]:
    """What a formula speaks of, among all jobs and these models."""
    formula = find_formula(formula_id)
    architectures = [architecture_of(model) for model in models]
    return [pair for pair in product(all_jobs(), architectures) if formula.refusal(*pair) is None]


def with_rank(job: JobSpec, rank: int) -> JobSpec:
    if isinstance(job.method, Full | Inference):
        return job
    return job.model_copy(update={"method": job.method.model_copy(update={"rank": rank})})


def draw_job(
    data: st.DataObject, formula: Formula, models: tuple[str, ...] = MODELS
) -> tuple[JobSpec, Architecture]:
    job, model = data.draw(st.sampled_from(accepted(formula.id, *models)))
    attention = data.draw(st.sampled_from(Attention))
    rank = data.draw(st.integers(1, 256))
    return with_rank(job.model_copy(update={"attention": attention}), rank), model


def peak_of(formula: Formula, job: JobSpec, model: Architecture, batch: int, length: int) -> int:
    return int(formula.evaluate(job, model, Shape(batch_size=batch, seq_len=length)).peak_bytes)


def all_terms(breakdown: Breakdown) -> Iterator[tuple[str, Any]]:
    for instant in breakdown.instants:
        yield from instant.terms.items()


def states_of(formula: Formula, job: JobSpec, model: Architecture) -> Mapping[str, int]:
    """What the formula gives for gradients and optimizer, under whatever name."""
    breakdown = formula.evaluate(job, model, Shape(batch_size=1, seq_len=64))
    return {
        name: value for name, value in all_terms(breakdown) if name.startswith(("gradients", "optimizer"))
    }


@of_every_formula
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_terms_are_whole_described_and_nowhere_below_zero(formula: Formula, data: st.DataObject) -> None:
    job, model = draw_job(data, formula)
    shape = Shape(batch_size=data.draw(BATCHES), seq_len=data.draw(LENGTHS))
    for name, value in all_terms(formula.evaluate(job, model, shape)):
        assert name in formula.terms
        assert type(value) is int
        assert value >= 0


@of_every_formula
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_more_rows_tokens_or_rank_never_take_less(formula: Formula, data: st.DataObject) -> None:
    job, model = draw_job(data, formula)
    batch, length = data.draw(BATCHES), data.draw(LENGTHS)
    base = peak_of(formula, job, model, batch, length)
    assert peak_of(formula, job, model, batch + 1, length) >= base
    assert peak_of(formula, job, model, batch, length + 1) >= base
    assert peak_of(formula, with_rank(job, 257), model, batch, length) >= base


@of_every_formula
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_larger_model_never_takes_less(formula: Formula, data: st.DataObject) -> None:
    # All within the class of 7B models, so that tables of sizes have a figure.
    sizes = SIZE_7B | {
        "num_hidden_layers": data.draw(st.integers(30, 34)),
        "hidden_size": 64 * data.draw(st.integers(63, 65)),
        "intermediate_size": data.draw(st.integers(10900, 11100)),
        "vocab_size": data.draw(st.integers(31000, 33000)),
    }
    grown = data.draw(st.sampled_from([name for name in sizes if not name.endswith("heads")]))
    step = 64 if grown == "hidden_size" else 1
    small, large = a_model(**sizes), a_model(**(sizes | {grown: sizes[grown] + step}))
    job, _ = draw_job(data, formula, ("llama-2-7b",))
    batch, length = data.draw(BATCHES), data.draw(LENGTHS)
    assert peak_of(formula, job, large, batch, length) >= peak_of(formula, job, small, batch, length)


@of_every_formula
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_many_jobs_at_once_give_what_each_gives(formula: Formula, data: st.DataObject) -> None:
    job, model = draw_job(data, formula)
    shapes = data.draw(st.lists(st.tuples(BATCHES, LENGTHS), min_size=1, max_size=5))
    batches, lengths = (np.array(column, dtype=np.int64) for column in zip(*shapes, strict=True))
    together = formula.evaluate(job, model, Shape(batch_size=batches, seq_len=lengths))
    for index, (batch, length) in enumerate(shapes):
        alone = formula.evaluate(job, model, Shape(batch_size=batch, seq_len=length))
        assert np.broadcast_to(together.peak_bytes, batches.shape)[index] == alone.peak_bytes
        for (name, many), (same, one) in zip(all_terms(together), all_terms(alone), strict=True):
            assert name == same
            assert np.broadcast_to(many, batches.shape)[index] == one


@pytest.mark.parametrize(
    ("formula", "job"),
    [
        pytest.param(formula, a_job(method=kind), id=f"{formula.id}-{kind}")
        for formula in FORMULAS
        for kind in LORA
        if formula.refusal(a_job(method=kind), architecture_of("llama-2-7b")) is None
    ],
)
@settings(max_examples=20, deadline=None)
@given(rank=st.integers(1, 256), vocab_size=st.integers(30_000, 40_000))
def test_a_frozen_model_has_no_gradients(formula: Formula, job: JobSpec, rank: int, vocab_size: int) -> None:
    job = with_rank(job, rank)
    assert not isinstance(job.method, Full | Inference)
    model, other = a_model(**SIZE_7B), a_model(**SIZE_7B | {"vocab_size": vocab_size})
    states = states_of(formula, job, model)
    assert states == states_of(formula, job, other)
    trained = num_adapter_parameters(model, job.method)
    # 16 bytes a trained parameter are more than any author gives; the table of components has one figure,
    # 0.5 GB at most, for every rank of 16 to 64.
    stated = 500_000_000 if formula.id.startswith("component-table") else 0
    assert sum(states.values()) <= 16 * trained + stated


def test_ids_are_unique() -> None:
    assert len({formula.id for formula in FORMULAS}) == len(FORMULAS)


@of_every_formula
def test_a_formula_says_who_published_it_and_what_it_predicts(formula: Formula) -> None:
    assert formula.title
    assert formula.source
    assert formula.predicts
    assert formula.terms
    assert all(formula.terms.values())


@of_every_formula
def test_a_formula_reads_the_batch_from_the_shape_alone(formula: Formula) -> None:
    for kind in (*TRAINING, "inference"):
        jobs = [a_job(method=kind, batch_size=size, seq_len=128 * size) for size in (1, 4)]
        model = architecture_of("llama-2-7b")
        if formula.refusal(jobs[0], model) is None:
            shape = Shape(batch_size=3, seq_len=256)
            one, other = (formula.evaluate(job, model, shape) for job in jobs)
            assert list(all_terms(one)) == list(all_terms(other))


def test_every_formula_is_found_by_its_id() -> None:
    assert [find_formula(formula.id) for formula in FORMULAS] == list(FORMULAS)


def test_an_unknown_formula_names_the_nearest_id() -> None:
    with pytest.raises(ConfigError, match="orbit2x-lorra") as raised:
        find_formula("orbit2x-lorra")
    assert "did you mean orbit2x-lora" in raised.value.hint


def test_a_name_near_to_none_is_answered_with_all() -> None:
    with pytest.raises(ConfigError) as raised:
        find_formula("???")
    assert all(formula.id in raised.value.hint for formula in FORMULAS)


def test_every_method_has_formulas_of_others() -> None:
    """A reader who estimates a job sees what others would have said of it."""
    model = architecture_of("llama-2-7b")
    for kind in (*TRAINING, "inference"):
        said = [formula.id for formula in FORMULAS if formula.refusal(a_job(method=kind), model) is None]
        assert len(said) >= 2, kind
