"""What the Orbit2x guide's master formulas say: inference, full training, LoRA, and its KV cache.

Source: "Ultimate VRAM Calculator Guide: How Much GPU Memory Do You Need for AI Models in 2026?", Orbit2x,
last updated January 2026; the section "The VRAM Calculation Formula: Master Template" unless a term says
otherwise. The guide mixes GB of 10^9 (weights) and of 2^30 (its KV cache); only the overhead of 0.5 GB is
given in neither bytes nor elements, and is read as 0.5 * 10^9.

Where its own worked examples (Llama 7B, 2048 tokens, P = 7e9, L = 32, h = 4096) leave its formulas:

- Full training, batch 4: activations are said to be 8.6 GB; the formula gives 2.15 GB, a quarter of it. So
  its total of 116.7 GB is 110.5 GB by the formula.
- LoRA, rank 8, batch 1: activations are said to be 2.6 GB, which is 0.3 of that 8.6; the formula gives
  0.16 GB. Its total of 20.4 GB leaves out the overhead of 0.5 GB; by the formula it is 18.6 GB.
- LoRA, rank 16, batch 4: 2.6 GB again, 0.64 GB by the formula; 23.9 GB in total, 22.3 GB by the formula.
- 2 * L * h * r counts two matrices a block of one adapted layer. Its own table has 4.2 M for rank 8, as two
  adapted layers (q_proj and v_proj) give; the formula gives 2.1 M.
- Its table of KV caches has 10 GB for 70B at 2K and 4 GB for Mixtral; the formula gives 5.4 GB and 1.1 GB.
- In its example of 70B in INT4 the KV cache keeps 16 bits at first and has 8 later, where the formula has 4;
  the 5 GB of its table for 7B in INT4 agrees with the formula's 4.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Quantity, Shape
from profiler.formula.others.facts import GB, at_peak, only, weight_bits
from profiler.jobs.choices import Optimizer
from profiler.jobs.job import Full, Inference, JobSpec

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture

SOURCE = 'Orbit2x, "Ultimate VRAM Calculator Guide" (January 2026), "The VRAM Calculation Formula"'

_OVERHEAD_BYTES = GB // 2
_STATE_BYTES = {
    Optimizer.ADAMW_TORCH: 8,
    Optimizer.ADAMW_TORCH_FUSED: 8,
    Optimizer.PAGED_ADAMW_32BIT: 8,
    Optimizer.ADAMW_BNB_8BIT: 2,
    Optimizer.PAGED_ADAMW_8BIT: 2,
    Optimizer.SGD: 0,
    Optimizer.ADAFACTOR: 4,
}
"""Bytes a trained parameter, from the guide's section "Optimizer States"."""


def weights_bytes(num_parameters: int, *, bits: int) -> int:
    """Model_Weights = Parameters * (Precision_Bits / 8) * 1.2."""
    return 12 * num_parameters * bits // 80


def kv_cache_bytes(architecture: Architecture, tokens: Quantity, *, bits: int) -> Quantity:
    """KV_Cache = 2 * Layers * Hidden_Dim * Seq_Length * Batch_Size * (Precision_Bits / 8).

    The guide knows no grouped keys and values. It counts a cache in training too, which holds none.
    """
    return 2 * architecture.num_layers * architecture.hidden_size * tokens * bits // 8


def activations_bytes(architecture: Architecture, tokens: Quantity, *, bits: int) -> Quantity:
    """Activations = Batch_Size * Seq_Length * Hidden_Dim * Layers * (Precision_Bits / 8)."""
    return tokens * architecture.hidden_size * architecture.num_layers * bits // 8


def optimizer_bytes(num_trained: int, optimizer: Optimizer) -> int:
    """Optimizer_States = Parameters * 8 for Adam, and the guide's own bytes for other optimizers."""
    return num_trained * _STATE_BYTES[optimizer]


def gradients_bytes(num_trained: int) -> int:
    """Gradients = Parameters * 2, whatever the precision."""
    return 2 * num_trained


def num_lora_parameters(architecture: Architecture, *, rank: int) -> int:
    """LoRA_Trainable_Params = 2 * Layers * Hidden_Dim * LoRA_Rank, whichever layers are adapted."""
    return 2 * architecture.num_layers * architecture.hidden_size * rank


def _evaluate_inference(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    assert isinstance(job.method, Inference)
    bits = weight_bits(job)
    # The context at the end of the generation: the cache is largest then.
    tokens = shape.batch_size * (shape.seq_len + job.method.new_tokens)
    return at_peak(
        {
            "weights": weights_bytes(architecture.num_parameters, bits=bits),
            "kv_cache": kv_cache_bytes(architecture, tokens, bits=bits),
            "activations": activations_bytes(architecture, tokens, bits=bits) // 10,
            "overhead": _OVERHEAD_BYTES,
        }
    )


def _evaluate_full(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    activations = activations_bytes(architecture, shape.tokens, bits=16)
    is_checkpointed = job.gradient_checkpointing.enabled
    num_parameters = architecture.num_parameters
    return at_peak(
        {
            "weights": weights_bytes(num_parameters, bits=32),
            "gradients": gradients_bytes(num_parameters),
            "optimizer": optimizer_bytes(num_parameters, job.optimizer),
            "kv_cache": kv_cache_bytes(architecture, shape.tokens, bits=16),
            "activations": 3 * activations // 10 if is_checkpointed else activations,
            "overhead": _OVERHEAD_BYTES,
        }
    )


def _evaluate_lora(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    assert not isinstance(job.method, Full | Inference)
    num_trained = num_lora_parameters(architecture, rank=job.method.rank)
    bits = 4 if job.method.kind == "qlora" else 16
    return at_peak(
        {
            "weights": weights_bytes(architecture.num_parameters, bits=bits),
            "gradients": gradients_bytes(num_trained),
            "optimizer": optimizer_bytes(num_trained, job.optimizer),
            "kv_cache": kv_cache_bytes(architecture, shape.tokens, bits=16),
            "activations": 3 * activations_bytes(architecture, shape.tokens, bits=16) // 10,
            "overhead": _OVERHEAD_BYTES,
        }
    )


_FORMULA = partial(
    Formula, source=SOURCE, predicts="all that the card shows as used, the CUDA context included"
)
_KV_CACHE = "2 * L * h * tokens * {bytes}: keys and values of every block, ungrouped"
_OVERHEAD = "0.5 GB: CUDA context and libraries"
_TRAINING_TERMS = {
    "kv_cache": _KV_CACHE.format(bytes=2),
    "overhead": _OVERHEAD,
}

ORBIT2X_INFERENCE = _FORMULA(
    id="orbit2x-inference",
    title="Orbit2x guide, inference",
    terms={
        "weights": "P * bits / 8 * 1.2",
        "kv_cache": _KV_CACHE.format(bytes="bits / 8"),
        "activations": "tokens * h * L * bits / 8 * 0.1",
        "overhead": _OVERHEAD,
    },
    evaluate=_evaluate_inference,
    refusal=only("inference"),
)

ORBIT2X_FULL = _FORMULA(
    id="orbit2x-full",
    title="Orbit2x guide, full training",
    terms=_TRAINING_TERMS
    | {
        "weights": "P * 4 * 1.2: float32 master weights, whatever the job's precision",
        "gradients": "P * 2",
        "optimizer": "P * 8 for Adam; 2 for 8-bit AdamW, 4 for Adafactor, 0 for SGD",
        "activations": "tokens * h * L * 2; * 0.3 with gradient checkpointing",
    },
    evaluate=_evaluate_full,
    refusal=only("full"),
)

ORBIT2X_LORA = _FORMULA(
    id="orbit2x-lora",
    title="Orbit2x guide, LoRA",
    terms=_TRAINING_TERMS
    | {
        "weights": "P * 2 * 1.2: frozen in 16 bits",
        "gradients": "2 * L * h * r * 2",
        "optimizer": "2 * L * h * r * 8 for Adam; 2, 4 or 0 in place of 8 as for full training",
        "activations": "tokens * h * L * 2 * 0.3",
    },
    evaluate=_evaluate_lora,
    refusal=only("lora"),
)

ORBIT2X_QLORA = _FORMULA(
    id="orbit2x-qlora",
    title="Orbit2x guide, LoRA on 4-bit weights",
    source=f'{SOURCE}, with the 4-bit base model of its section "QLoRA"',
    terms={**ORBIT2X_LORA.terms, "weights": "P * 0.5 * 1.2: frozen in 4 bits"},
    evaluate=_evaluate_lora,
    refusal=only("qlora"),
)
