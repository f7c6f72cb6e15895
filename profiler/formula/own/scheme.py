"""Which types a job's tensors have, and what of its model trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from profiler.jobs.choices import InferenceQuant, Precision
from profiler.jobs.job import FLOAT32_WEIGHTS, Full, Inference, Int8Lora, JobSpec, Lora, Method, QLora
from profiler.jobs.targets import is_targeted

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture, Linear

Base: TypeAlias = Literal["plain", "4bit", "8bit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Bytes an element takes in each part of a job, and what is trained.

    Attributes:
        base: how the matrices of the blocks are stored.
        weights: bytes an element of a matrix that is not quantized.
        others: bytes an element of every other parameter but tables: norms, biases, experts.
        tables: bytes an element of the embeddings and the output matrix.
        stream: bytes an element of the residual stream.
        linear: bytes an element of what a linear layer returns.
        matmul: bytes an element of what a linear layer computes with.
        autocast: whether the forward pass runs under autocast.
        double_quant: whether scales of 4-bit matrices are quantized themselves.
        trains_weights: whether the model's own weights are trained.
        accumulates: whether gradients of an earlier batch are there, which new ones are added to.
        adapter: the adapters' settings; None where there are none.
        adapter_size: bytes an element of an adapter.
    """

    base: Base
    weights: int
    others: int
    tables: int
    stream: int
    linear: int
    matmul: int
    autocast: bool
    double_quant: bool
    trains_weights: bool
    accumulates: bool
    adapter: Lora | QLora | Int8Lora | None
    adapter_size: int

    def is_adapted(self, linear: Linear) -> bool:
        """Whether a linear layer of a block has an adapter."""
        if self.adapter is None:
            return False
        targets = self.adapter.targets
        return targets == "all-linear" or is_targeted(linear.path, targets)

    def adapts_experts(self, architecture: Architecture) -> bool:
        """Whether a block's experts and their router have adapters, as peft gives them under `all-linear`."""
        return not architecture.is_dense and self.adapter is not None and self.adapter.targets == "all-linear"

    @property
    def rank(self) -> int:
        """Rank of the adapters; 0 where there are none."""
        return 0 if self.adapter is None else self.adapter.rank


def scheme_of(job: JobSpec) -> Scheme:
    """The types that transformers, peft and bitsandbytes give a job's tensors."""
    method = job.method
    weights = 4 if job.precision in FLOAT32_WEIGHTS else 2
    autocast = job.precision not in PURE
    base = _base(method)
    # prepare_model_for_kbit_training casts every 16-bit parameter that is not quantized to float32.
    is_prepared = isinstance(method, QLora | Int8Lora) and method.kbit_prepare
    others = 4 if is_prepared else weights
    matmul = _matmul_bytes(method, weights=2 if autocast else weights)
    return Scheme(
        base=base,
        weights=weights,
        others=others,
        tables=weights if _is_cast_as_trl(method) else others,
        stream=others,
        linear=matmul if base == "plain" else others,
        matmul=matmul,
        autocast=autocast,
        double_quant=isinstance(method, QLora | Inference) and method.double_quant,
        trains_weights=isinstance(method, Full),
        accumulates=job.accumulation > 1,
        adapter=None if isinstance(method, Full | Inference) else method,
        adapter_size=4 if getattr(method, "autocast_adapter_dtype", True) else 2,
    )


PURE = (Precision.FP32, Precision.BF16, Precision.FP16)
"""Precisions without autocast."""


def _is_cast_as_trl(method: Method) -> bool:
    """Whether what was prepared in float32 is 16 bits again, but for norms: the stream is theirs."""
    return isinstance(method, QLora) and method.trl_casting


def _base(method: Method) -> Base:
    match method:
        case QLora() | Inference(is_4bit=True):
            return "4bit"
        case Int8Lora() | Inference(quant=InferenceQuant.INT8):
            return "8bit"
        case Full() | Lora() | Inference():
            return "plain"


def _matmul_bytes(method: Method, *, weights: int) -> int:
    match method:
        case QLora(compute_dtype=compute) | Inference(is_4bit=True, compute_dtype=compute):
            return 4 if compute == "float32" else 2
        case Int8Lora() | Inference(quant=InferenceQuant.INT8):
            return 2
        case Full() | Lora() | Inference():
            return weights
