"""What `accelerate estimate-memory` says: the size of a model, and its column "Training using Adam".

Source: accelerate 1.x, `accelerate/commands/estimate.py` (`estimate_training_usage`, `gather_data`) and
`calculate_maximum_sizes` of `accelerate/utils/modeling.py`; the documentation's "Model memory estimator". The
column is for a batch size of 1 and has no activations; it is the largest of four moments, not their sum.

The command builds the model with `AutoModel`, which has no output matrix: an untied one is not counted. It
does count the tables of the rotary embedding, less than 2 KiB, which are left out here. Its third column, the
largest layer, is about offloading and predicts nothing of a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Instant, Shape
from profiler.formula.others.facts import at_peak, only, weight_bits
from profiler.jobs.choices import Precision

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

_SOURCE = "accelerate 1.x, accelerate/commands/estimate.py"


def num_counted_parameters(architecture: Architecture) -> int:
    """Parameters of the model that `AutoModel` builds: all but an output matrix of its own."""
    return architecture.num_parameters - architecture.num_output_parameters


def total_size_bytes(architecture: Architecture, *, bits: int) -> int:
    """Total Size: the parameters in the type asked for (float32, float16, int8 or int4)."""
    return num_counted_parameters(architecture) * bits // 8


def _evaluate_total_size(job: JobSpec, architecture: Architecture, _: Shape) -> Breakdown:
    return at_peak({"weights": total_size_bytes(architecture, bits=weight_bits(job))})


def _evaluate_training(job: JobSpec, architecture: Architecture, _: Shape) -> Breakdown:
    """Training using Adam: the largest of what `estimate_training_usage` gives for four moments.

    Its `float16` stands for every precision that computes in 16 bits. In halves of the float32 size.
    """
    size = total_size_bytes(architecture, bits=32)
    is_float32 = job.precision is Precision.FP32
    halves = {
        "model": 2,
        "gradients": 2 if is_float32 else 3,  # 1.5 times: gradients, and 16 bits for the products
        "optimizer": 4,
        "step": 8 if is_float32 else 4,
    }
    return Breakdown(
        instants=tuple(Instant(name=name, terms={name: n * size // 2}) for name, n in halves.items())
    )


ACCELERATE_TOTAL_SIZE = Formula(
    id="accelerate-total-size",
    title="accelerate estimate-memory, total size",
    source=f"{_SOURCE}, `gather_data`",
    predicts="the weights alone, once loaded",
    terms={"weights": "P without an untied output matrix, * 4, 2, 1 or 0.5"},
    evaluate=_evaluate_total_size,
    refusal=only("lora", "qlora", "int8-lora", "inference"),
)

ACCELERATE_TRAINING = Formula(
    id="accelerate-training",
    title="accelerate estimate-memory, training using Adam",
    source=f"{_SOURCE}, `estimate_training_usage`",
    predicts="tensors at the peak of training with a batch of 1, without activations",
    terms={
        "model": "P * 4",
        "gradients": "P * 4 in float32, P * 6 in 16 bits",
        "optimizer": "P * 8",
        "step": "P * 16 in float32, P * 8 in 16 bits",
    },
    evaluate=_evaluate_training,
    refusal=only("full"),
)
