from __future__ import annotations

import pytest

from profiler.process.out_of_memory import is_out_of_memory


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (OutOfMemoryError("CUDA had none"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
        (MemoryError("out of memory"), False),
        (None, False),
    ],
)
def test_a_full_card_is_known_by_type_and_by_words(error: BaseException | None, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


def test_an_error_that_a_full_card_led_to_is_one_and_a_circle_ends() -> None:
    error: BaseException = KeyError("text")
    error.__context__ = OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(error)
    error = RuntimeError("round and round")
    error.__cause__ = other = RuntimeError("and round")
    other.__cause__ = error
    assert not is_out_of_memory(error)
