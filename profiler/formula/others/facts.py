"""What the formulas of others read of a job: bits of a weight, trained parameters, the class of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, assert_never

from profiler.formula.breakdown import Breakdown, Instant
from profiler.jobs.choices import AttentionMask, InferenceQuant, Optimizer
from profiler.jobs.identity import ADDED_LATER
from profiler.jobs.job import FLOAT32_WEIGHTS, Full, Inference, Int8Lora, JobSpec, Lora, QLora
from profiler.jobs.keys import flatten
from profiler.jobs.settings import show_value
from profiler.jobs.targets import is_targeted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity
    from profiler.jobs.job import Method

Refusal: TypeAlias = "Callable[[JobSpec, Architecture], str | None]"
AnyLora: TypeAlias = "Lora | QLora | Int8Lora"

GB = 10**9
"""A gigabyte as the guides count: 7 billion parameters of 2 bytes are their 14 GB."""

BITS_8_OPTIMIZERS = (Optimizer.ADAMW_BNB_8BIT, Optimizer.PAGED_ADAMW_8BIT)
ADAM_OPTIMIZERS = (Optimizer.ADAMW_TORCH, Optimizer.ADAMW_TORCH_FUSED, Optimizer.PAGED_ADAMW_32BIT)
"""Those with two float32 moments a parameter."""


_UNSPOKEN = (
    *("accumulation", "foreach", "neftune_alpha", "loss"),
    *("method.autocast_adapter_dtype", "method.modules_to_save"),
)
"""Keys of a job that no publication speaks of, unless they are as they always were."""


def at_peak(terms: Mapping[str, Quantity]) -> Breakdown:
    """The breakdown of a formula that names no moment."""
    return Breakdown(instants=(Instant(name="peak", terms=terms),))


def weight_bits(job: JobSpec) -> int:
    """Bits a weight of the base model is kept in, by the job's method and precision.

    The guides count every parameter so; bitsandbytes quantizes the matrices of the blocks only.
    """
    method = job.method
    match method:
        case QLora():
            return 4
        case Int8Lora():
            return 8
        case Inference(quant=InferenceQuant.NF4 | InferenceQuant.FP4):
            return 4
        case Inference(quant=InferenceQuant.INT8):
            return 8
        case Full() | Lora() | Inference():
            return 32 if job.precision in FLOAT32_WEIGHTS else 16
        case _:
            assert_never(method)


def num_adapter_parameters(architecture: Architecture, method: AnyLora) -> int:
    """Elements of the adapters that peft adds: r * (in + out) for every linear layer it is told to adapt.

    `all-linear` is every linear layer of the blocks: peft leaves the output matrix out, and transformers 5
    has the experts of a mixture in tensors that are no linear layers. DoRA adds a magnitude for every output.
    """
    extra = 1 if method.use_dora else 0
    blocks = sum(
        block.count * (method.rank * (linear.in_features + linear.out_features) + extra * linear.out_features)
        for block in architecture.blocks
        for linear in block.linears
        if method.targets == "all-linear" or is_targeted(linear.path, method.targets)
    )
    hidden, vocab = architecture.hidden_size, architecture.vocab_size
    has_output = method.targets != "all-linear" and "lm_head" in method.targets
    return blocks + (method.rank * (hidden + vocab) + extra * vocab if has_output else 0)


def num_trained_parameters(architecture: Architecture, method: Method) -> int:
    """Elements of the tensors that training changes."""
    match method:
        case Full():
            return architecture.num_parameters
        case Inference():
            return 0
        case _:
            return num_adapter_parameters(architecture, method)


def is_near(architecture: Architecture, billions: int) -> bool:
    """Whether a model is what people call an N-billion model: its count is within an eighth of N.

    Llama-2-7B (6.74), Mistral-7B (7.24) and Qwen2.5-7B (7.62) are 7B models; Llama-3.1-8B (8.03) is none.
    """
    nominal = billions * 10**9
    return 8 * abs(architecture.num_parameters - nominal) <= nominal


def find_class(architecture: Architecture, classes: Mapping[int, Fraction]) -> Fraction | None:
    """The figure of the class of size that a model belongs to; None where a table has no such class."""
    return next((figure for billions, figure in classes.items() if is_near(architecture, billions)), None)


def only(*kinds: str) -> Refusal:
    """Refuses every method but these, and every job that does what no publication speaks of."""

    def refuse(job: JobSpec, _: Architecture) -> str | None:
        if job.method.kind not in kinds:
            return f"it speaks of {' and '.join(kinds)}, not of {job.method.kind}"
        if job.attention_mask is AttentionMask.PACKED:
            return "it says nothing of packed rows"
        settings = flatten(job.model_dump(mode="json"))
        key = next((key for key in _UNSPOKEN if key in settings and settings[key] != ADDED_LATER[key]), None)
        return None if key is None else f"it says nothing of {key} {show_value(key, settings[key])}"

    return refuse


def first_of(*refusals: Refusal) -> Refusal:
    """Refuses what any of them refuses, for the first one's reason."""

    def refuse(job: JobSpec, architecture: Architecture) -> str | None:
        reasons = (refusal(job, architecture) for refusal in refusals)
        return next((reason for reason in reasons if reason is not None), None)

    return refuse


def only_sizes(*billions: int) -> Refusal:
    """Refuses every model that is of none of these classes of size."""

    def refuse(_: JobSpec, architecture: Architecture) -> str | None:
        if any(is_near(architecture, size) for size in billions):
            return None
        names = ", ".join(f"{size}B" for size in billions)
        return f"it speaks of {names}, not of {architecture.num_parameters / GB:.1f}B"

    return refuse


def only_optimizers(*optimizers: Optimizer) -> Refusal:
    """Refuses every training job with another optimizer."""

    def refuse(job: JobSpec, _: Architecture) -> str | None:
        if isinstance(job.method, Inference) or job.optimizer in optimizers:
            return None
        return f"it gives no figure for the optimizer {job.optimizer}"

    return refuse


def only_dense(_: JobSpec, architecture: Architecture) -> str | None:
    """Refuses mixtures of experts."""
    return None if architecture.is_dense else "it speaks of dense models, not of a mixture of experts"
