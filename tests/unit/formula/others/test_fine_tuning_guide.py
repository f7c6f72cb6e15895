from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.facts import num_adapter_parameters
from profiler.formula.others.fine_tuning_guide import (
    FINE_TUNING_GUIDE,
    activations_bytes,
    gradients_bytes,
    optimizer_bytes,
    quantized_weights_bytes,
    weights_bytes,
)
from profiler.jobs.job import Lora
from tests.unit.formula.shapes import a_tuning, gigabytes

P = 7_000_000_000
MISTRAL = architecture_of("mistral-7b-v0.1")


def test_full_fine_tuning_adds_up_to_its_104_gb() -> None:
    parts = (weights_bytes(P), gradients_bytes(P), optimizer_bytes(P), activations_bytes(4, method="full"))
    assert [part / 1e9 for part in parts] == [14, 28, 56, 6]


def test_4_bit_weights_are_its_four_and_a_half() -> None:
    assert quantized_weights_bytes(P) == 4_500_000_000


def test_lora_of_rank_64_has_its_gradients_and_states() -> None:
    """0.7 GB and 1.4 GB, with adapters on every linear layer: the guide names no targets here."""
    num_trained = num_adapter_parameters(MISTRAL, Lora(rank=64))
    assert num_trained == 167_772_160
    assert round(gradients_bytes(num_trained) / 1e9, 1) == 0.7
    assert optimizer_bytes(num_trained) / 1e9 == pytest.approx(1.4, abs=0.06)


def test_lora_adds_up_to_about_its_20_gb() -> None:
    job = a_tuning("lora", method_rank=64, batch_size=4)
    assert gigabytes(FINE_TUNING_GUIDE, job, MISTRAL) == pytest.approx(20, abs=0.6)


def test_qlora_adds_up_to_the_upper_end_of_its_8_to_10_gb() -> None:
    assert gigabytes(FINE_TUNING_GUIDE, a_tuning("qlora"), MISTRAL) == pytest.approx(10, abs=0.2)


def test_activations_follow_the_batch() -> None:
    assert activations_bytes(8, method="full") == 2 * activations_bytes(4, method="full")


def test_another_size_is_refused() -> None:
    refusal = FINE_TUNING_GUIDE.refusal(a_tuning("full"), architecture_of("llama-2-13b"))
    assert refusal == "it speaks of 7B, not of 13.0B"
