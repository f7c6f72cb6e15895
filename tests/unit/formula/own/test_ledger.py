from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.formula.own.ledger import Ledger, rounded

SIZES = st.integers(min_value=0, max_value=1 << 40)


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 512), (512, 512), (513, 1024)])
def test_a_tensor_takes_whole_units_of_512_bytes(size: int, expected: int) -> None:
    assert rounded(size) == expected


def test_the_peak_is_what_was_held_at_once() -> None:
    ledger = Ledger()
    ledger.hold("first", 1024)
    ledger.hold("second", 2048)
    ledger.release("first")
    ledger.hold("third", 512)
    assert (ledger.held_bytes, ledger.peak_bytes) == (2560, 3072)


def test_a_replacement_is_held_beside_what_it_replaces() -> None:
    ledger = Ledger()
    ledger.hold("wide", 4096)
    ledger.replace("wide", "narrow", 2048)
    assert (ledger.held_bytes, ledger.peak_bytes) == (2048, 6144)
    assert "wide" not in ledger


def test_a_pulse_raises_the_peak_and_leaves_nothing() -> None:
    ledger = Ledger()
    ledger.hold("kept", 512)
    ledger.pulse(1, 1)
    assert (ledger.held_bytes, ledger.peak_bytes) == (512, 1536)


def test_a_restarted_peak_counts_from_what_is_held() -> None:
    ledger = Ledger()
    ledger.hold("kept", 512)
    ledger.pulse(4096)
    ledger.restart_peak()
    assert ledger.peak_bytes == 512


def test_a_renamed_tensor_is_the_same_tensor() -> None:
    ledger = Ledger()
    ledger.hold("old", 1000)
    ledger.rename("old", "new")
    assert (ledger.size("new"), ledger.held_bytes, ledger.peak_bytes) == (1024, 1024, 1024)


def test_a_name_stands_for_one_tensor_only() -> None:
    ledger = Ledger()
    ledger.hold("name", 1)
    with pytest.raises(AssertionError, match="name is held already"):
        ledger.hold("name", 1)


def test_a_pinned_tensor_stays_when_it_is_freed() -> None:
    ledger = Ledger()
    ledger.hold("input", 512)
    ledger.pin("input")
    ledger.release("input")
    assert (ledger.held_bytes, "input" in ledger) == (512, False)


def test_what_is_not_held_cannot_be_freed() -> None:
    ledger = Ledger()
    ledger.release_if_held("nothing")
    with pytest.raises(KeyError):
        ledger.release("nothing")


@given(st.lists(SIZES, min_size=1, max_size=5))
def test_a_ledger_of_arrays_is_one_ledger_a_job(sizes: list[int]) -> None:
    alone = Ledger()
    together = Ledger()
    for index, size in enumerate(sizes):
        alone.hold(f"tensor {index}", size)
        together.hold(f"tensor {index}", np.array([size, 2 * size]))
    alone.release("tensor 0")
    together.release("tensor 0")
    twice = sum(int(str(rounded(2 * size))) for size in sizes)
    assert np.asarray(together.peak_bytes).tolist() == [alone.peak_bytes, twice]
    assert np.asarray(together.held_bytes)[0] == alone.held_bytes
