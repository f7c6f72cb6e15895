"""What EleutherAI's "Transformer Math 101" says of training and of inference.

Source: Q. Anthony, S. Biderman, H. Schoelkopf, "Transformer Math 101", EleutherAI blog (April 2023), sections
"Inference" and "Training", which number no equations. Its activations are those of Korthikanti et al. (2022)
with tensor parallelism t, here 1: sbhL (10 + 24/t + 5as/(ht)), with selective recomputation sbhL (10 + 24/t),
with full recomputation 2 sbhL, "stored in fp16". Its 12 bytes of AdamW hold a float32 copy of the weights, in
float32 training as well: it makes no exception there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Shape
from profiler.formula.others.facts import (
    ADAM_OPTIMIZERS,
    BITS_8_OPTIMIZERS,
    at_peak,
    first_of,
    only,
    only_dense,
    only_optimizers,
    weight_bits,
)
from profiler.formula.others.megatron import stored_terms
from profiler.jobs.choices import Optimizer, Precision

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

_SOURCE = 'EleutherAI, "Transformer Math 101" (2023)'
STATE_BYTES = {
    **dict.fromkeys(ADAM_OPTIMIZERS, 12),
    **dict.fromkeys(BITS_8_OPTIMIZERS, 6),
    Optimizer.SGD: 8,
}
"""Bytes a parameter, a float32 copy of it (4) included; SGD is given with momentum."""


def model_bytes(num_parameters: int, *, precision: Precision) -> int:
    """Model memory: 4 bytes a parameter in fp32, 2 in fp16, bf16 and mixed precision."""
    return num_parameters * (4 if precision is Precision.FP32 else 2)


def gradients_bytes(num_parameters: int, *, precision: Precision) -> int:
    """Gradient memory: the type of the model, which is 16 bits in mixed precision."""
    return model_bytes(num_parameters, precision=precision)


def optimizer_bytes(num_parameters: int, optimizer: Optimizer) -> int:
    """Optimizer memory: 12 bytes a parameter for AdamW, 6 for an 8-bit one, 8 for SGD with momentum."""
    return num_parameters * STATE_BYTES[optimizer]


def _evaluate_training(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    num_parameters = architecture.num_parameters
    return at_peak(
        {
            "weights": model_bytes(num_parameters, precision=job.precision),
            "gradients": gradients_bytes(num_parameters, precision=job.precision),
            "optimizer": optimizer_bytes(num_parameters, job.optimizer),
            **stored_terms(job, architecture, shape),
        }
    )


def _evaluate_inference(job: JobSpec, architecture: Architecture, _: Shape) -> Breakdown:
    """Total memory of inference = 1.2 * model memory."""
    model = architecture.num_parameters * weight_bits(job) // 8
    return at_peak({"weights": model, "overhead": model // 5})


ELEUTHERAI_TRAINING = Formula(
    id="eleutherai-training",
    title="EleutherAI, Transformer Math 101, training",
    source=f'{_SOURCE}, "Training"',
    predicts="tensors at the end of the forward pass",
    terms={
        "weights": "P * 2; P * 4 in fp32",
        "gradients": "P * 2; P * 4 in fp32",
        "optimizer": "P * 12 for AdamW, 6 for an 8-bit one, 8 for SGD; 4 of it a copy of the weights",
        "activations": "34 sbhL; 2 sbhL with gradient checkpointing",
        "scores": "5 a s^2 b L, with eager attention and no checkpointing",
    },
    evaluate=_evaluate_training,
    refusal=first_of(only("full"), only_dense, only_optimizers(*STATE_BYTES)),
)

ELEUTHERAI_INFERENCE = Formula(
    id="eleutherai-inference",
    title="EleutherAI, Transformer Math 101, inference",
    source=f'{_SOURCE}, "Inference"',
    predicts="tensors of a forward pass, without a KV cache",
    terms={"weights": "P * bits / 8", "overhead": "20 % of the weights"},
    evaluate=_evaluate_inference,
    refusal=only("inference"),
)
