from __future__ import annotations

from typing import Any

from profiler.formula.own.loss import LossCost, loss_cost
from profiler.formula.own.scheme import scheme_of
from tests.unit.formula.shapes import a_model, a_shape, a_tuning

TOKENS, ROWS, HIDDEN = 1024, 1024, 256
LLAMA = a_model(hidden_size=HIDDEN, vocab_size=ROWS)
ENTRIES = TOKENS * ROWS


def cost(kind: str, **changes: Any) -> LossCost:
    job = a_tuning(kind, **changes)
    return loss_cost(job, LLAMA, scheme_of(job), a_shape(2, TOKENS // 2))


def test_16_bit_logits_cost_14_bytes_an_entry_and_12_with_trainer() -> None:
    """In the backward pass: logits that the plain loop keeps, log-probabilities and two gradients."""
    labels = TOKENS * 8
    assert cost("full").backward == 14 * ENTRIES + labels
    assert cost("full", loop="trainer").backward == 12 * ENTRIES + labels


def test_float32_logits_have_no_copy() -> None:
    labels = TOKENS * 8
    assert cost("full", precision="fp32").forward == 8 * ENTRIES + labels
    assert cost("full").forward == (2 + 4 + 4) * ENTRIES + labels


def test_the_plain_loop_keeps_the_logits_through_the_backward_pass() -> None:
    assert (cost("lora").kept, cost("lora", loop="trainer").kept) == (2 * ENTRIES, 0)


def test_full_training_saves_what_the_output_matrix_multiplied() -> None:
    full, lora = cost("full"), cost("lora")
    assert lora.saved == TOKENS * HIDDEN * 4
    assert full.saved == TOKENS * HIDDEN * (4 + 2 + 2)
