from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.formula.own.optimizer import state_bytes, step_bytes
from profiler.formula.own.resident import Tensor
from profiler.jobs.choices import Optimizer

KIB = 1024
MATRIX = Tensor(num_rows=1024, num_columns=1024, element_bytes=2)
NORM = Tensor(num_rows=1, num_columns=1024, element_bytes=2)
TABLES = 2 * 256 * 4


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (Optimizer.ADAMW_TORCH, 2 * 2048 * KIB),  # two moments of the weights' type
        (Optimizer.ADAMW_TORCH_FUSED, 2 * 2048 * KIB + 512),  # and its count of steps
        (Optimizer.ADAMW_BNB_8BIT, TABLES + 2 * 1024 * KIB + 2 * 16 * KIB),  # a scale for 256
        (Optimizer.PAGED_ADAMW_8BIT, TABLES + 2 * 16 * KIB),  # moments are managed memory, scales are not
        (Optimizer.PAGED_ADAMW_32BIT, 0),
        (Optimizer.SGD, 0),
        (Optimizer.ADAFACTOR, 2 * 4 * KIB),  # a float32 a row, a float32 a column
    ],
)
def test_the_state_of_a_matrix(optimizer: Optimizer, expected: int) -> None:
    assert state_bytes(optimizer, [(MATRIX, 1)]) == expected


def test_small_tensors_are_optimized_in_32_bits_outside_of_managed_memory() -> None:
    assert state_bytes(Optimizer.PAGED_ADAMW_8BIT, [(NORM, 3)]) == TABLES + 3 * 2 * 4 * KIB


def test_embeddings_are_optimized_in_32_bits() -> None:
    table = Tensor(num_rows=1024, num_columns=1024, element_bytes=2, is_embedding=True)
    assert state_bytes(Optimizer.ADAMW_BNB_8BIT, [(table, 1)]) == TABLES + 2 * 4096 * KIB


def test_foreach_adamw_takes_the_roots_of_the_larger_group_at_once() -> None:
    assert step_bytes(Optimizer.ADAMW_TORCH, [(MATRIX, 3), (NORM, 5)]) == 3 * MATRIX.bytes
    assert step_bytes(Optimizer.ADAMW_TORCH, [(NORM, 5)]) == 5 * NORM.bytes


def test_without_foreach_a_tensors_roots_are_there_twice_and_those_of_the_one_before() -> None:
    def step(*tensors: tuple[Tensor, int]) -> int:
        return step_bytes(Optimizer.ADAMW_TORCH, tensors, is_foreach=False)

    table = Tensor(num_rows=9000, num_columns=1024, element_bytes=2, is_embedding=True)
    output = Tensor(num_rows=9000, num_columns=1024, element_bytes=2)
    assert step((MATRIX, 3), (NORM, 5)) == 3 * MATRIX.bytes
    assert step((MATRIX, 3), (table, 1)) == 2 * table.bytes
    assert step((MATRIX, 3), (table, 1), (output, 1)) == 2 * output.bytes + MATRIX.bytes


def test_adafactor_takes_one_tensor_after_the_other() -> None:
    once, often = (step_bytes(Optimizer.ADAFACTOR, [(MATRIX, count)]) for count in (1, 9))
    assert once == often == 4 * 4096 * KIB  # gradient and weights in float32, the update, the product


@given(st.sampled_from(Optimizer), st.integers(1, 1 << 14), st.integers(1, 1 << 14), st.integers(1, 50))
def test_state_is_per_tensor(optimizer: Optimizer, num_rows: int, num_columns: int, count: int) -> None:
    tensor = Tensor(num_rows=num_rows, num_columns=num_columns, element_bytes=2)
    tables = state_bytes(optimizer, [])
    assert state_bytes(optimizer, [(tensor, count)]) - tables == count * (
        state_bytes(optimizer, [(tensor, 1)]) - tables
    )
