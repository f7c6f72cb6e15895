"""What must hold of our formula whatever the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.formula.breakdown import Breakdown, Shape, shape_of
from profiler.formula.configs import architecture_of
from profiler.formula.own.peakvram import PEAKVRAM, TERMS
from tests.unit.formula.shapes import a_model, a_shape, a_tuning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

KINDS = ("full", "lora", "qlora", "int8-lora")
FAMILIES = st.sampled_from(["llama", "mistral", "qwen2", "qwen3"])
PRECISIONS = ("fp32", "bf16", "bf16-amp", "bf16-autocast")


@st.composite
def jobs(draw: st.DrawFn, *, kinds: tuple[str, ...] = KINDS, rank: int | None = None) -> JobSpec:
    kind = draw(st.sampled_from(kinds))
    method: dict[str, Any] = {}
    if kind != "full":
        method["method_rank"] = rank or draw(st.sampled_from([4, 16, 64]))
        method["method_dropout"] = draw(st.sampled_from([0.0, 0.1]))
        method["method_targets"] = draw(st.sampled_from(["all-linear", "q_proj,v_proj", "down_proj"]))
    return a_tuning(
        kind,
        precision=draw(st.sampled_from(PRECISIONS if kind in {"full", "lora"} else ("bf16",))),
        gradient_checkpointing=draw(st.booleans()),
        attention=draw(st.sampled_from(["eager", "sdpa"])),
        attention_mask=draw(st.sampled_from(["none", "full", "padded"])),
        loop=draw(st.sampled_from(["plain", "trainer"])),
        optimizer=draw(st.sampled_from(["adamw_torch", "adamw_bnb_8bit", "adafactor", "sgd"])),
        batch_size=draw(st.integers(1, 8)),
        seq_len=draw(st.sampled_from([128, 512, 2048])),
        **method,
    )


def models(**changes: object) -> st.SearchStrategy[Architecture]:
    return st.builds(
        lambda model_type, is_tied: a_model(
            **{"model_type": model_type, "tie_word_embeddings": is_tied, "hidden_size": 128, **changes}
        ),
        FAMILIES,
        st.booleans(),
    )


def evaluate(job: JobSpec, architecture: Architecture, shape: Shape | None = None) -> Breakdown:
    assert PEAKVRAM.refusal(job, architecture) is None
    return PEAKVRAM.evaluate(job, architecture, shape or shape_of(job))


def peak(job: JobSpec, architecture: Architecture, shape: Shape | None = None) -> int:
    return int(str(evaluate(job, architecture, shape).peak_bytes))


@given(jobs(), models())
def test_every_term_is_known_and_none_is_below_zero(job: JobSpec, architecture: Architecture) -> None:
    for instant in evaluate(job, architecture).instants:
        assert set(instant.terms) <= set(TERMS)
        assert all(int(str(size)) >= 0 for size in instant.terms.values()), instant


@given(jobs(), models(), st.integers(1, 4))
def test_a_larger_batch_never_needs_less(job: JobSpec, architecture: Architecture, more: int) -> None:
    shape = a_shape(job.batch_size + more, job.seq_len)
    assert peak(job, architecture, shape) >= peak(job, architecture)


@given(jobs(), models(), st.integers(1, 2000))
def test_a_longer_batch_never_needs_less(job: JobSpec, architecture: Architecture, more: int) -> None:
    shape = a_shape(job.batch_size, job.seq_len + more)
    assert peak(job, architecture, shape) >= peak(job, architecture)


@given(jobs(kinds=("lora", "qlora", "int8-lora"), rank=8), models(), st.integers(9, 256))
def test_a_higher_rank_never_needs_less(job: JobSpec, architecture: Architecture, rank: int) -> None:
    higher = job.model_copy(update={"method": job.method.model_copy(update={"rank": rank})})
    assert peak(higher, architecture) > peak(job, architecture)


@given(jobs(), FAMILIES, st.booleans())
def test_another_block_needs_more(job: JobSpec, model_type: str, is_tied: bool) -> None:
    few, many = (
        a_model(model_type=model_type, tie_word_embeddings=is_tied, hidden_size=128, num_hidden_layers=layers)
        for layers in (3, 4)
    )
    assert peak(job, many) > peak(job, few)


@given(jobs(), st.sampled_from(["hidden_size", "intermediate_size", "vocab_size"]), st.integers(1, 4))
def test_a_wider_model_needs_more(job: JobSpec, width: str, factor: int) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 352, "vocab_size": 1024}
    wider = a_model(**{**sizes, width: sizes[width] * (1 + factor)})
    assert peak(job, wider) > peak(job, a_model(**sizes))


@given(jobs(), models(), st.lists(st.tuples(st.integers(1, 9), st.integers(2, 3000)), min_size=1, max_size=4))
@settings(max_examples=50)
def test_many_shapes_at_once_are_each_shape_alone(
    job: JobSpec, architecture: Architecture, shapes: list[tuple[int, int]]
) -> None:
    batches, lengths = np.array(shapes).T
    together = evaluate(job, architecture, Shape(batch_size=batches, seq_len=lengths)).peak_bytes
    alone = [peak(job, architecture, a_shape(batch, length)) for batch, length in shapes]
    assert np.array_equal(together, alone)


@given(jobs(kinds=("full", "lora")))
@settings(max_examples=30)
def test_a_window_counts_from_the_length_that_reaches_it(job: JobSpec) -> None:
    windowed = a_model(model_type="mistral", sliding_window=600)
    full = a_model(model_type="mistral", sliding_window=None)
    lengths = np.array([599, 600, 1200])
    shape = Shape(batch_size=np.array([2, 2, 2]), seq_len=lengths)
    with_window, without = (evaluate(job, model, shape).peak_bytes for model in (windowed, full))
    differs = np.asarray(with_window) != np.asarray(without)
    assert not differs[0]
    if job.attention == "sdpa" and job.attention_mask != "padded" and not job.gradient_checkpointing.enabled:
        assert differs[1:].all()  # another kernel, its mask, and a bias in every block


@given(jobs(kinds=("lora", "qlora", "int8-lora")), models())
def test_a_frozen_model_has_the_gradients_of_its_adapters_only(
    job: JobSpec, architecture: Architecture
) -> None:
    for instant in evaluate(job, architecture).instants:
        gradients = int(str(instant.terms.get("gradients", 0)))
        assert gradients <= int(str(instant.terms.get("adapters", gradients)))


@given(jobs(kinds=("full",)), models())
def test_a_model_that_trains_whole_has_no_adapters(job: JobSpec, architecture: Architecture) -> None:
    for instant in evaluate(job, architecture).instants:
        assert instant.terms.get("adapters", 0) == 0


def _forward_end(job: JobSpec, architecture: Architecture) -> Mapping[str, object]:
    instants = {instant.name: instant.terms for instant in evaluate(job, architecture).instants}
    return instants["end of the forward pass"]


def test_checkpointing_keeps_block_inputs_in_place_of_activations() -> None:
    architecture = architecture_of("llama-3.2-1b")
    on, off = (a_tuning("lora", gradient_checkpointing=is_on) for is_on in (True, False))
    end_on, end_off = (_forward_end(job, architecture) for job in (on, off))
    assert end_on["block_inputs"] == 16 * 2048 * 2048 * 2
    assert "block_inputs" not in end_off
    assert int(str(end_on["saved_activations"])) < int(str(end_off["saved_activations"])) / 10


def test_the_first_step_makes_the_optimizers_state_in_its_end_only() -> None:
    architecture = architecture_of("llama-3.2-1b")
    instants = evaluate(a_tuning("full", steps=1), architecture).instants
    assert [instant.name for instant in instants if instant.terms.get("optimizer_state")] == [
        "optimizer step"
    ]


def test_a_hopper_card_has_larger_workspaces() -> None:
    architecture = architecture_of("llama-3.2-1b")
    older, newer = (
        evaluate(a_tuning("full", gpu=gpu), architecture).instants[-1].terms["workspaces"]
        for gpu in ("a100-80gb", "h100-80gb")
    )
    assert (older, newer) == (2 * 8_519_680, 2 * 33_554_432)


@pytest.mark.parametrize("model", ["qwen3.5-0.8b"])
def test_a_family_that_is_not_followed_is_refused_by_name(model: str) -> None:
    architecture = architecture_of(model)
    refusal = PEAKVRAM.refusal(a_tuning("lora", model=model), architecture)
    assert refusal == f"the blocks of {architecture.model_type} models are not followed"
