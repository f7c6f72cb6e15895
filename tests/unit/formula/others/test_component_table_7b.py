from __future__ import annotations

import pytest

from profiler.formula.configs import architecture_of
from profiler.formula.others.component_table_7b import (
    COMPONENT_TABLE_7B_HIGH,
    COMPONENT_TABLE_7B_LOW,
    kv_cache_bytes,
)
from tests.unit.formula.shapes import LLAMA_2_7B, a_tuning, gigabytes, terms_of


def test_a_thousand_tokens_take_the_half_gigabyte_of_the_table() -> None:
    assert kv_cache_bytes(LLAMA_2_7B, 1000) / 1e9 == pytest.approx(0.5, abs=0.03)  # "0.5-1 GB per 1k"


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    # The table's typical peaks at batch 1 and 2,048 tokens: 65-90+, 18-30, 9-18 GB. Only the first agrees.
    [("full", 66.1, 90.1), ("lora", 24.2, 45.6), ("qlora", 12.1, 27.6)],
)
def test_the_rows_add_up(kind: str, low: float, high: float) -> None:
    job = a_tuning(kind, seq_len=2048)
    assert gigabytes(COMPONENT_TABLE_7B_LOW, job) == pytest.approx(low, abs=0.05)
    assert gigabytes(COMPONENT_TABLE_7B_HIGH, job) == pytest.approx(high, abs=0.05)


def test_the_high_end_is_nowhere_below_the_low_end() -> None:
    for kind in ("full", "lora", "qlora"):
        low, high = (
            terms_of(formula, a_tuning(kind)) for formula in (COMPONENT_TABLE_7B_LOW, COMPONENT_TABLE_7B_HIGH)
        )
        assert all(int(str(low[row])) <= int(str(high[row])) for row in low)


def test_another_size_is_refused() -> None:
    assert COMPONENT_TABLE_7B_LOW.refusal(a_tuning("full"), architecture_of("gpt2")) is not None
