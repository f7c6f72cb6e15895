"""What the Orbit2x guide's rules of thumb and its tables say, which need no width of a model.

Source: "Ultimate VRAM Calculator Guide: How Much GPU Memory Do You Need for AI Models in 2026?", Orbit2x,
last updated January 2026: "VRAM Rules of Thumb", "Quick Answer Table", "Llama 3.1 70B" and the comparison
tables of its sections "LoRA" and "QLoRA". A GB is 10^9 bytes, so that a GB per billion parameters is a byte
a parameter.

The rules and the tables disagree with its formulas and with one another: full training of 7B is 56 GB by
the rule (68 with what it adds for cache and overhead), 120 GB in the table, 116.7 GB by its formula; of 70B
560 GB in the table, 1,100 GB by the formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Quantity, Shape
from profiler.formula.others.facts import GB, at_peak, find_class, first_of, only, weight_bits
from profiler.jobs.job import Inference

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

_GUIDE = 'Orbit2x, "Ultimate VRAM Calculator Guide" (January 2026)'
_TRAINING_BYTES = {"full": 8, "lora": 3}
_TABLE = {
    "full": {7: 120, 70: 560},
    "lora": {1: 4, 7: 20, 13: 40, 70: 200, 175: 500},
    "qlora": {7: 9},
}
"""GB by method and billions of parameters; for a batch of 1 (4 in full training of 7B) and 2K tokens."""


def inference_bytes(num_parameters: int, *, bits: int) -> int:
    """About 2, 1 and 0.5 GB per billion parameters at 16, 8 and 4 bits."""
    return num_parameters * bits // 8


def training_bytes(num_parameters: int, *, method: str) -> int:
    """About 8 GB per billion parameters for training, 3 GB for LoRA, both "FP16"."""
    return num_parameters * _TRAINING_BYTES[method]


def kv_cache_bytes(tokens: Quantity) -> Quantity:
    """The guide adds 0.5 to 1 GB per 2K of context, of a batch's every row; read as 1 GB.

    The upper end is the one that its formula gives for the 7B model of its examples.
    """
    return GB * tokens // 2048


def overhead_bytes(subtotal: Quantity) -> Quantity:
    """20 % on all calculations."""
    return subtotal // 5


def _with_extras(rule: int, tokens: Quantity) -> Breakdown:
    cache = kv_cache_bytes(tokens)
    return at_peak({"rule": rule, "kv_cache": cache, "overhead": overhead_bytes(rule + cache)})


def _evaluate_inference(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    assert isinstance(job.method, Inference)
    rule = inference_bytes(architecture.num_parameters, bits=weight_bits(job))
    return _with_extras(rule, shape.batch_size * (shape.seq_len + job.method.new_tokens))


def _evaluate_training(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    rule = training_bytes(architecture.num_parameters, method=job.method.kind)
    return _with_extras(rule, shape.tokens)


def _evaluate_table(job: JobSpec, architecture: Architecture, _: Shape) -> Breakdown:
    figure = find_class(architecture, _TABLE[job.method.kind])
    assert figure is not None, "the refusal comes first"
    return at_peak({"table": figure * GB})


def _refuse_32_bits(job: JobSpec, _: Architecture) -> str | None:
    return "it gives no figure for float32 weights" if weight_bits(job) == 32 else None


def _refuse_sizes(job: JobSpec, architecture: Architecture) -> str | None:
    sizes = _TABLE[job.method.kind]
    if find_class(architecture, sizes) is not None:
        return None
    names = ", ".join(f"{size}B" for size in sizes)
    return f"its table has {job.method.kind} of {names}, not of {architecture.num_parameters / GB:.1f}B"


_PREDICTS = "all that the card shows as used"
_EXTRAS = {
    "kv_cache": "1 GB per 2,048 tokens of the batch (the guide says 0.5 to 1)",
    "overhead": "20 % of the other terms",
}

ORBIT2X_RULE_INFERENCE = Formula(
    id="orbit2x-rule-inference",
    title="Orbit2x guide, rule of thumb for inference",
    source=f'{_GUIDE}, "VRAM Rules of Thumb"',
    predicts=_PREDICTS,
    terms={"rule": "2, 1 or 0.5 GB per billion parameters at 16, 8 or 4 bits"} | _EXTRAS,
    evaluate=_evaluate_inference,
    refusal=first_of(only("inference"), _refuse_32_bits),
)

ORBIT2X_RULE_TRAINING = Formula(
    id="orbit2x-rule-training",
    title="Orbit2x guide, rule of thumb for training",
    source=f'{_GUIDE}, "VRAM Rules of Thumb"',
    predicts=_PREDICTS,
    terms={"rule": "8 GB per billion parameters for full training, 3 GB for LoRA"} | _EXTRAS,
    evaluate=_evaluate_training,
    refusal=only(*_TRAINING_BYTES),
)

ORBIT2X_TABLE = Formula(
    id="orbit2x-table",
    title="Orbit2x guide, tables of training by size",
    source=f'{_GUIDE}, "Quick Answer Table", "Llama 3.1 70B", "LoRA", "QLoRA"',
    predicts=_PREDICTS,
    terms={"table": "the figure of the model's size and method, at batch 1 (full training of 7B: 4) and 2K"},
    evaluate=_evaluate_table,
    refusal=first_of(only(*_TABLE), _refuse_sizes),
)
