"""Which jobs our own formula speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.families import LLAMA_LIKE
from profiler.formula.own.blocks.families import BLOCKS
from profiler.formula.own.scheme import PURE
from profiler.jobs.choices import Attention, AttentionMask, Loss, Precision
from profiler.jobs.targets import is_targeted

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec


def refusal(job: JobSpec, architecture: Architecture) -> str | None:
    """Why the formula says nothing of a job; None where it does."""
    if architecture.model_type not in BLOCKS:
        return f"the blocks of {architecture.model_type} models are not followed"
    if job.method.kind == "inference" and architecture.model_type not in LLAMA_LIKE:
        return f"inference of {architecture.model_type} models is not followed"
    if job.method.kind == "inference" and job.precision not in PURE:
        return "inference under autocast is not followed"
    reason = _refusal_of_training(job, architecture) or _refusal_of_adapters(job, architecture)
    if reason is not None or architecture.model_type in LLAMA_LIKE:
        return reason
    return _refusal_of_family(job, architecture)


def _refusal_of_training(job: JobSpec, architecture: Architecture) -> str | None:
    if job.accumulation > 1 and not architecture.is_dense:
        return "gradients of experts that accumulate are not followed"
    if job.attention_mask is AttentionMask.PACKED:
        return "packed rows are not followed"
    if job.loss is Loss.CHUNKED:
        return "a loss in chunks is not followed"
    if job.neftune_alpha:
        return "NEFTune's noise is not followed"
    return None


def _refusal_of_adapters(job: JobSpec, architecture: Architecture) -> str | None:
    if getattr(job.method, "modules_to_save", ()):
        return "modules that are trained beside adapters are not followed"
    if getattr(job.method, "use_dora", False):
        return "DoRA's magnitudes are not followed"
    if getattr(job.method, "trl_casting", False) and not _is_cast_under_autocast(job, architecture):
        return "trl's casting is followed for Llama's blocks, prepared and under bf16-autocast, alone"
    if not getattr(job.method, "autocast_adapter_dtype", True) and not architecture.is_dense:
        return "adapters of experts in 16 bits are not followed"
    if not _adapts_every_block(job, architecture):
        return "adapters of other modules than the linear layers of all blocks alike are not followed"
    return None


def _refusal_of_family(job: JobSpec, architecture: Architecture) -> str | None:
    """Of a family that is followed in part."""
    if job.precision not in PURE:
        return f"autocast is not followed in the blocks of {architecture.model_type} models"
    if architecture.model_type == "gpt2" and job.attention is Attention.EAGER:
        return "dropout in eager attention is not followed"
    if architecture.odd_blocks:
        return "models whose blocks differ are not followed"
    if not architecture.is_dense and not _adapts_attention_only(job, architecture):
        return "adapters of some experts only are not followed"
    return None


def _is_cast_under_autocast(job: JobSpec, architecture: Architecture) -> bool:
    is_prepared = getattr(job.method, "kbit_prepare", False)
    return is_prepared and job.precision is Precision.BF16_AUTOCAST and architecture.model_type in LLAMA_LIKE


def _adapts_every_block(job: JobSpec, architecture: Architecture) -> bool:
    """Whether each target names linear layers of every block: neither embeddings nor one block's layers.

    A block of experts has layers of one name in all experts, of which `_refusal_of_family` speaks.
    """
    targets = getattr(job.method, "targets", "all-linear")
    linears = (*architecture.linears, *architecture.expert_linears)
    return targets == "all-linear" or all(
        any(is_targeted(linear.path, (target,)) for linear in linears) for target in targets
    )


def _adapts_attention_only(job: JobSpec, architecture: Architecture) -> bool:
    """Whether targets leave the experts alone, or are all there are."""
    targets = getattr(job.method, "targets", "all-linear")
    return targets == "all-linear" or all(
        any(is_targeted(linear.path, (target,)) for linear in architecture.linears) for target in targets
    )
