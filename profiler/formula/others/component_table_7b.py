"""What the table of components for a 7B model says: its low ends and its high ends, as two formulas.

Source: the table "Component / Approx. VRAM in FP16/bf16 full fine-tune / With LoRA (r=16-64) / With QLoRA
(4-bit NF4)". A GB is 10^9 bytes ("7B x 2 bytes" is its 14 GB). Only the KV cache is given by an equation; the
rest are ranges for one model, with no rule for others, so other sizes are refused. "Tiny" and "very small"
stand for no bytes where the table has no figure beside them; of a range with a `+` the figure is taken.

Its typical peaks for a batch of 1 and 2,048 tokens are not the sums of its own rows. Full: 66-90 GB by the
rows, 65-90+ in the table. LoRA: 24-46 by the rows, 18-30 in the table. QLoRA: 12-28 by the rows, 9-18 in the
table. It also counts a KV cache, which training has none of, and calls it quadratic in the length under
activations, linear in its equation.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from profiler.formula.breakdown import Breakdown, Formula, Quantity, Shape
from profiler.formula.others.facts import at_peak, first_of, only, only_sizes

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

End: TypeAlias = Literal["low", "high"]

_RANGES_MB = {
    "weights": {"full": (14_000, 15_000), "lora": (14_000, 15_000), "qlora": (4_000, 5_500)},
    "gradients": {"full": (14_000, 15_000), "lora": (100, 500), "qlora": (0, 0)},
    "optimizer": {"full": (28_000, 30_000), "lora": (0, 0), "qlora": (0, 0)},
    "activations": {"full": (8_000, 25_000), "lora": (8_000, 25_000), "qlora": (6_000, 18_000)},
    "buffers": {"full": (1_000, 4_000), "lora": (1_000, 4_000), "qlora": (1_000, 3_000)},
}
"""Rows of the table: low and high end, in MB of 10^6."""


def row_bytes(row: str, *, method: str, end: End) -> int:
    """One end of a row's range."""
    low, high = _RANGES_MB[row][method]
    return (low if end == "low" else high) * 10**6


def kv_cache_bytes(architecture: Architecture, tokens: Quantity) -> Quantity:
    """seq_len * layers * 2 * hidden_size * 2 bytes * batch; "slightly less" in QLoRA, with no figure."""
    return tokens * architecture.num_layers * 2 * architecture.hidden_size * 2


def _evaluate(job: JobSpec, architecture: Architecture, shape: Shape, *, end: End) -> Breakdown:
    rows = {row: row_bytes(row, method=job.method.kind, end=end) for row in _RANGES_MB}
    return at_peak({**rows, "kv_cache": kv_cache_bytes(architecture, shape.tokens)})


def _formula(end: End) -> Formula:
    index = 0 if end == "low" else 1
    described = {
        row: "; ".join(f"{kind} {ends[index] / 1000:g} GB" for kind, ends in ranges.items())
        for row, ranges in _RANGES_MB.items()
    }
    return Formula(
        id=f"component-table-7b-{end}",
        title=f"table of components for 7B, {end} ends",
        source="table of VRAM by component for 7B: full, LoRA (r = 16-64), QLoRA (NF4)",
        predicts="all that the card shows as used",
        terms=described | {"kv_cache": "tokens * L * 2 * h * 2"},
        evaluate=partial(_evaluate, end=end),
        refusal=first_of(only("full", "lora", "qlora"), only_sizes(7)),
    )


COMPONENT_TABLE_7B_LOW = _formula("low")
COMPONENT_TABLE_7B_HIGH = _formula("high")
