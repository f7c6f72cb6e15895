from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from profiler.formula.breakdown import Breakdown, Formula, Instant, Shape, largest, round_up, select
from profiler.formula.configs import architecture_of
from profiler.formula.families import FAMILIES
from profiler.formula.own.peakvram import PEAKVRAM
from profiler.formula.pieces import MONOMIALS, NotPiecewiseError, Pieces, UndecidedError, follow
from profiler.jobs.job import MAX_TOKENS
from profiler.jobs.presets import list_presets
from tests.builders import a_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity
    from profiler.formula.pieces import Section
    from profiler.jobs.job import JobSpec


def a_symbol(powers: tuple[int, int], *, first: int = 1, last: int = MAX_TOKENS) -> Any:
    return Pieces((tuple(float(own == powers) for own in MONOMIALS),), first, last)


BATCH, LENGTH = a_symbol((1, 0)), a_symbol((0, 1))


def a_formula(term: Callable[[Shape], Quantity]) -> Formula:
    """A formula of one term that a test gives."""

    def evaluate(_job: JobSpec, _architecture: Architecture, shape: Shape) -> Breakdown:
        return Breakdown(instants=(Instant(name="peak", terms={"term": term(shape)}),))

    return Formula(
        id="one", title="", source="", predicts="", terms={}, evaluate=evaluate, refusal=lambda _j, _a: None
    )


def followed(term: Callable[[Shape], Quantity]) -> tuple[Section, ...]:
    return follow(a_formula(term), a_job(), architecture_of("llama-3.1-8b"))


def value(quantity: object, batch: int, length: int) -> float:
    return quantity.at(batch, length) if isinstance(quantity, Pieces) else cast("int", quantity)


def total_at(sections: tuple[Section, ...], batch: int, length: int) -> float:
    (section,) = (one for one in sections if one.min_seq_len <= length <= one.max_seq_len)
    return max(
        sum(value(quantity, batch, length) for quantity in instant.terms.values())
        for instant in section.breakdown.instants
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    model=st.sampled_from([one.id for one in list_presets() if one.architecture.model_type in FAMILIES]),
    method=st.sampled_from(["full", "lora", "qlora", "int8-lora"]),
    checkpointing=st.booleans(),
    attention=st.sampled_from(["sdpa", "eager"]),
    mask=st.sampled_from(["full", "padded"]),
    batch=st.integers(1, 64),
    length=st.integers(64, 16_384),
)
def test_a_followed_formula_says_the_same_as_the_formula(  # noqa: PLR0917 - a choice each
    model: str, method: str, checkpointing: bool, attention: str, mask: str, batch: int, length: int
) -> None:
    job = a_job(
        model=model,
        method=method,
        gradient_checkpointing=checkpointing,
        attention=attention,
        attention_mask=mask,
    )
    architecture = architecture_of(model)
    assume(PEAKVRAM.refusal(job, architecture) is None)
    said = PEAKVRAM.evaluate(job, architecture, Shape(batch_size=batch, seq_len=length)).peak_bytes
    assert total_at(follow(PEAKVRAM, job, architecture), batch, length) == pytest.approx(said, rel=1e-3)


def test_lengths_from_a_sliding_window_on_are_a_section_of_their_own() -> None:
    job = a_job(model="mistral-7b-v0.1", method="lora")
    architecture = architecture_of(job.model)
    below, above = follow(PEAKVRAM, job, architecture)
    assert (below.max_seq_len, above.min_seq_len) == (4095, 4096)
    for length in (4095, 4096):
        said = PEAKVRAM.evaluate(job, architecture, Shape(batch_size=2, seq_len=length)).peak_bytes
        assert total_at((below, above), 2, length) == pytest.approx(said, rel=1e-6)


@given(
    batch=st.integers(1, 100),
    length=st.integers(1, 10_000),
    numbers=st.lists(st.integers(-1000, 1000), min_size=4, max_size=4),
)
def test_arithmetic_is_that_of_numbers(batch: int, length: int, numbers: list[int]) -> None:
    one, two, three, four = numbers

    def compute(b: Any, s: Any) -> Any:
        tokens = b * s
        total = tokens * one + two - s * three
        return largest(total, tokens * s * 2 + four, 17, 5 - b) + b

    assert compute(BATCH, LENGTH).at(batch, length) == pytest.approx(compute(batch, length))


def test_numbers_of_numpy_are_numbers() -> None:
    assert (np.int64(3) * LENGTH + np.int64(4)).at(1, 5) == 19
    assert np.maximum(np.int64(3), LENGTH).at(1, 5) == 5


def test_what_is_never_the_largest_is_dropped() -> None:
    assert len(largest(LENGTH * 4, LENGTH * 4 + 1, LENGTH * 2, 100).polynomials) == 2  # type: ignore[union-attr]


def test_rounding_is_left_out() -> None:
    rounded = cast("Pieces", round_up(LENGTH * 24, 512))
    assert rounded.at(1, 100) == 2400
    assert round_up(2400, 512) == 2560


def test_a_decision_on_the_length_is_made_where_it_is_the_same_for_all() -> None:
    assert select(a_symbol((0, 1), first=4096) >= 4096, 1, 2) == 1
    assert select(a_symbol((0, 1), last=4095) >= 4096, 1, 2) == 2
    assert a_symbol((0, 1), first=4096) > 4095
    assert a_symbol((0, 1), last=4095) < 4096
    assert a_symbol((0, 1), last=4096) <= 4096
    with pytest.raises(UndecidedError) as error:
        bool(LENGTH * 2 + 2 >= 4096)
    assert error.value.seq_len == 2047


def test_several_decisions_make_several_sections() -> None:
    sections = followed(
        lambda shape: (
            select(cast("bool", shape.seq_len >= 100), 1, 0)
            + select(cast("bool", shape.seq_len > 1000), 10, 0)
        )
    )
    assert [(one.min_seq_len, one.max_seq_len) for one in sections] == [
        (1, 99),
        (100, 1000),
        (1001, MAX_TOKENS),
    ]
    assert [total_at(sections, 1, length) for length in (99, 100, 1000, 1001)] == [0, 1, 1, 11]


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (lambda shape: shape.tokens * shape.tokens, "batch size to the 2"),
        (lambda shape: select(shape.batch_size >= 4, 1, 2), "length alone"),
        (lambda shape: shape.tokens - largest(shape.seq_len, shape.batch_size), "one polynomial"),
        (lambda shape: largest(shape.seq_len, shape.batch_size) * -1, "no positive number"),
        (lambda shape: shape.tokens // shape.seq_len, "divided by"),
        (lambda shape: np.sqrt(shape.tokens), "numpy's sqrt"),
        (lambda shape: shape.tokens + 0.5, "0.5 is no whole number"),
    ],
)
def test_what_no_largest_of_polynomials_can_express_is_said(
    term: Callable[[Any], Quantity], words: str
) -> None:
    with pytest.raises(NotPiecewiseError, match=words):
        followed(term)
