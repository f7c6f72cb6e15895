"""What the Megatron papers and code say of mixed-precision training: states and stored activations.

Sources: V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022,
arXiv:2205.05198), for activations on one card (tensor and pipeline parallel size 1), and Megatron-LM,
`megatron/training/theoretical_memory_usage.py`, for 18 bytes a parameter, without a distributed optimizer.

The paper's blocks are GPT's: as many keys as queries, an MLP of width 4h with GeLU, dropout with a mask of
one byte an element. It is evaluated with a dense model's h, a, L and v all the same, as its readers do. It
says what is stored for the backward pass, not what a recomputed block needs besides. Activations are of 16
bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Quantity, Shape
from profiler.formula.others.facts import (
    ADAM_OPTIMIZERS,
    at_peak,
    first_of,
    only,
    only_dense,
    only_optimizers,
)
from profiler.jobs.choices import Attention, Precision

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec


def weights_bytes(num_parameters: int) -> int:
    """16-bit weights: 2 of the 18 bytes."""
    return 2 * num_parameters


def gradients_bytes(num_parameters: int) -> int:
    """float32 gradients: 4 of the 18 bytes."""
    return 4 * num_parameters


def optimizer_bytes(num_parameters: int) -> int:
    """float32 master weights and Adam's two moments: 12 of the 18 bytes."""
    return 12 * num_parameters


def activations_bytes(architecture: Architecture, tokens: Quantity, *, is_recomputed: bool) -> Quantity:
    """34 sbhL, the part of Eq. 1 that is linear in s; 2 sbhL with full recomputation (Table 2)."""
    per_element = 2 if is_recomputed else 34
    return per_element * tokens * architecture.hidden_size * architecture.num_layers


def scores_bytes(architecture: Architecture, shape: Shape) -> Quantity:
    """5 a s^2 b L, the other part of Eq. 1: softmax, its dropout and mask (sbh * 5as/h a block)."""
    return 5 * architecture.num_heads * shape.seq_len * shape.tokens * architecture.num_layers


def ends_bytes(architecture: Architecture, tokens: Quantity) -> Quantity:
    """Both ends, sbh + 4sbh (1 + v/h): embedding dropout, last norm, output matrix, loss (section 4.3)."""
    return 5 * tokens * architecture.hidden_size + 4 * tokens * architecture.vocab_size


def stored_terms(job: JobSpec, architecture: Architecture, shape: Shape) -> dict[str, Quantity]:
    """Activations of the blocks, by recomputation.

    Gradient checkpointing is the paper's full recomputation. An attention that never stores its scores (SDPA,
    FlashAttention) has what the paper's selective recomputation leaves: Eq. 6, 34 sbhL.
    """
    is_recomputed = job.gradient_checkpointing.enabled
    activations = activations_bytes(architecture, shape.tokens, is_recomputed=is_recomputed)
    if is_recomputed or job.attention is not Attention.EAGER:
        return {"activations": activations}
    return {"activations": activations, "scores": scores_bytes(architecture, shape)}


def _evaluate(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    num_parameters = architecture.num_parameters
    return at_peak(
        {
            "weights": weights_bytes(num_parameters),
            "gradients": gradients_bytes(num_parameters),
            "optimizer": optimizer_bytes(num_parameters),
            **stored_terms(job, architecture, shape),
            "ends": ends_bytes(architecture, shape.tokens),
        }
    )


def _refuse_float32(job: JobSpec, _: Architecture) -> str | None:
    return "it speaks of 16-bit training, not of fp32" if job.precision is Precision.FP32 else None


MEGATRON = Formula(
    id="megatron",
    title="Megatron-LM, Korthikanti et al. 2022",
    source="Korthikanti et al. 2022 (arXiv:2205.05198), Eq. 1, Eq. 6, Table 2, section 4.3; "
    "Megatron-LM, theoretical_memory_usage.py",
    predicts="tensors at the end of the forward pass of mixed-precision training",
    terms={
        "weights": "P * 2",
        "gradients": "P * 4",
        "optimizer": "P * 12: float32 master weights and two moments of Adam",
        "activations": "34 sbhL; 2 sbhL with gradient checkpointing",
        "scores": "5 a s^2 b L, with eager attention and no checkpointing",
        "ends": "sbh + 4sbh (1 + v/h): embedding, last norm, output matrix, loss",
    },
    evaluate=_evaluate,
    refusal=first_of(only("full"), only_dense, only_optimizers(*ADAM_OPTIMIZERS), _refuse_float32),
)
