"""What the guide on choosing LoRA, QLoRA or full fine-tuning says: a table, a rule and a budget.

Source: MP Industrial Solutions, guide on LoRA, QLoRA and full fine-tuning: "The numbers that matter: VRAM by
method" and "Frequently asked questions". A GB is 10^9 bytes. It speaks of dense models and says that its
figures do not hold for mixtures of experts.

Its table is a constant a parameter: 9.6 GB per billion for full fine-tuning, 2.1 for LoRA, 1.3 for 8 bits
and 0.7 for 4 bits, whatever the batch and the length. The lower end of its rule, 10 GB, is said to match the
table, which has 9.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Shape
from profiler.formula.others.facts import (
    ADAM_OPTIMIZERS,
    BITS_8_OPTIMIZERS,
    GB,
    at_peak,
    find_class,
    first_of,
    only,
    only_dense,
    only_optimizers,
    only_sizes,
    weight_bits,
)

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

_GUIDE = "MP Industrial Solutions, guide on LoRA, QLoRA and full fine-tuning"
_TABLE = {
    "full": {7: 67, 13: 125, 70: 672},
    "lora": {7: 15, 13: 28, 70: 146},
    "int8-lora": {7: 9, 13: 17, 70: 88},
    "qlora": {7: 5, 13: 9, 70: 46},
}
"""GB by method and billions of parameters, "FP16/BF16"; the guide calls int8-lora "QLoRA 8-bit"."""


def table_bytes(architecture: Architecture, *, method: str) -> int:
    """The figure of the table."""
    figure = find_class(architecture, _TABLE[method])
    assert figure is not None, "the refusal comes first"
    return figure * GB


def rule_bytes(num_parameters: int, *, is_8bit: bool) -> int:
    """10 to 16 GB per billion parameters, by the guide's own conditions for the two ends.

    10 with an 8-bit optimizer and gradient checkpointing, 16 with 32-bit Adam.
    """
    return num_parameters * (10 if is_8bit else 16)


def _evaluate_table(job: JobSpec, architecture: Architecture, _: Shape) -> Breakdown:
    return at_peak({"table": table_bytes(architecture, method=job.method.kind)})


def _evaluate_rule(job: JobSpec, architecture: Architecture, _: Shape) -> Breakdown:
    is_8bit = job.optimizer in BITS_8_OPTIMIZERS
    return at_peak({"rule": rule_bytes(architecture.num_parameters, is_8bit=is_8bit)})


def _evaluate_budget(job: JobSpec, architecture: Architecture, _: Shape) -> Breakdown:
    """The answer to why full fine-tuning needs so much more than inference: all but activations."""
    weights = architecture.num_parameters * weight_bits(job) // 8
    return at_peak({"weights": weights, "gradients": weights, "optimizer": 2 * weights})


def _refuse_between(job: JobSpec, _: Architecture) -> str | None:
    if job.optimizer in BITS_8_OPTIMIZERS and not job.gradient_checkpointing.enabled:
        return "it has an 8-bit optimizer with gradient checkpointing only"
    return None


DECISION_GUIDE_TABLE = Formula(
    id="decision-guide-table",
    title="decision guide, table by size and method",
    source=f'{_GUIDE}, "The numbers that matter"',
    predicts="all that the card shows as used",
    terms={"table": "the figure of the model's size and method, whatever the batch and the length"},
    evaluate=_evaluate_table,
    refusal=first_of(only(*_TABLE), only_dense, only_sizes(7, 13, 70)),
)

DECISION_GUIDE_RULE = Formula(
    id="decision-guide-rule",
    title="decision guide, 10 to 16 GB per billion parameters",
    source=f'{_GUIDE}, "Rule of thumb for full FT"',
    predicts="weights, gradients, optimizer states and activations",
    terms={"rule": "P * 10 with an 8-bit optimizer and gradient checkpointing, P * 16 with 32-bit Adam"},
    evaluate=_evaluate_rule,
    refusal=first_of(
        only("full"), only_dense, only_optimizers(*ADAM_OPTIMIZERS, *BITS_8_OPTIMIZERS), _refuse_between
    ),
)

DECISION_GUIDE_BUDGET = Formula(
    id="decision-guide-budget",
    title="decision guide, weights, gradients and Adam",
    source=f'{_GUIDE}, "Frequently asked questions"',
    predicts="tensors at the peak of training but for activations, which the guide names without a figure",
    terms={
        "weights": "P * bytes of a weight",
        "gradients": "the same size as the weights",
        "optimizer": "twice the weights (Adam)",
    },
    evaluate=_evaluate_budget,
    refusal=first_of(only("full"), only_dense, only_optimizers(*ADAM_OPTIMIZERS)),
)
