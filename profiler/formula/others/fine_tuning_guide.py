"""What the fine-tuning guide's arithmetic for a 7B model says: full, LoRA and QLoRA.

Source: the guide on fine-tuning that works through Mistral 7B ("Why Fine-Tuning Needs So Much More VRAM Than
Inference", "The 4 VRAM Consumers During Training", "LoRA vs Full Fine-Tuning: The VRAM Math"). A GB is 10^9
bytes: its 7 billion parameters of 4 bytes are 28 GB.

Weights, gradients and optimizer states are given per parameter. Activations are figures of its example alone
(6 GB in full training at about batch 4; 4 GB in LoRA, with no batch named, read as the same), no length is
named, and no rule for other models; so models of other sizes are refused, activations follow the batch, of
which the guide says they scale with it, and stay as they are with the length.

Its own figures do not agree: full fine-tuning of 7B takes 28-40 GB, 40-80+, 80-100+ and "104 minimum" in
four places; LoRA 12-14, 12-20 and about 20. Its LoRA of rank 64 keeps 0.7 GB of gradients, so 175 million
parameters at its 4 bytes each: adapters on every linear layer (168 million), and 2.4 % of the model, where
the text says less than 1 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Quantity, Shape
from profiler.formula.others.facts import GB, at_peak, first_of, num_adapter_parameters, only, only_sizes
from profiler.jobs.job import Full, Inference

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

_ACTIVATION_BYTES = {"full": 6 * GB, "lora": 4 * GB}
"""At a batch of 4."""


def weights_bytes(num_parameters: int) -> int:
    """FP16 weights, 2 bytes a parameter: 14 GB."""
    return 2 * num_parameters


def quantized_weights_bytes(num_parameters: int) -> int:
    """4-bit weights: 4.5 GB for 7 billion parameters, so 9/14 of a byte each."""
    return 9 * num_parameters // 14


def gradients_bytes(num_trained: int) -> int:
    """One float32 gradient a trained parameter: 4 bytes; in LoRA the guide has the adapters in it too."""
    return 4 * num_trained


def optimizer_bytes(num_trained: int) -> int:
    """AdamW: two terms of 4 bytes a trained parameter."""
    return 8 * num_trained


def activations_bytes(batch_size: Quantity, *, method: str) -> Quantity:
    """The figure of the example, by the batch's share of the 4 it was given for."""
    return _ACTIVATION_BYTES[method] * batch_size // 4


def _evaluate(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    method, num_parameters = job.method, architecture.num_parameters
    assert not isinstance(method, Inference)
    if method.kind == "qlora":
        return at_peak(
            {"weights": quantized_weights_bytes(num_parameters), "all_else": 11 * GB // 2}  # 4 to 5.5 GB
        )
    num_trained = num_parameters if isinstance(method, Full) else num_adapter_parameters(architecture, method)
    return at_peak(
        {
            "weights": weights_bytes(num_parameters),
            "gradients": gradients_bytes(num_trained),
            "optimizer": optimizer_bytes(num_trained),
            "activations": activations_bytes(shape.batch_size, method=method.kind),
        }
    )


FINE_TUNING_GUIDE = Formula(
    id="fine-tuning-guide",
    title="fine-tuning guide, arithmetic for 7B",
    source='guide on fine-tuning with Mistral 7B, "LoRA vs Full Fine-Tuning: The VRAM Math"',
    predicts="tensors at the peak of training; the guide calls its sums the memory of the card",
    terms={
        "weights": "P * 2; 4-bit: 4.5 GB for 7 billion",
        "gradients": "4 bytes a trained parameter; in LoRA the adapters are in it",
        "optimizer": "8 bytes a trained parameter (AdamW)",
        "activations": "6 GB (full) or 4 GB (LoRA) at batch 4, in proportion to the batch",
        "all_else": "QLoRA: adapters, gradients, optimizer and activations, 5.5 GB (the guide: 4-5.5)",
    },
    evaluate=_evaluate,
    refusal=first_of(only("full", "lora", "qlora"), only_sizes(7)),
)
