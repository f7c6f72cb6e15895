"""Our own formula, from first principles: every tensor that the libraries are known to make.

Fine-tuning of one decoder-only model on one card, and generating with it, is followed to the moments at which
memory can peak; the peak is the largest of them. Nothing in it is fitted. Its sources are the code of
transformers 5, peft, bitsandbytes and torch, and the caching allocator's history of runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula
from profiler.formula.own.inference import evaluate_inference
from profiler.formula.own.instants import instants_of
from profiler.formula.own.parts import take_apart, workspace_bytes
from profiler.formula.own.scope import refusal
from profiler.jobs.job import Inference, JobSpec

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Shape

TERMS = {
    "weights": "every parameter as it is stored: elements x bytes, 4-bit data two elements a byte",
    "quantization_state": "scales, codes and offsets of quantized matrices",
    "adapters": "LoRA's A and B, in float32 if not told: 4 rank (in + out) for each adapted matrix",
    "optimizer_state": "moments of trained tensors, in the type the optimizer keeps them in",
    "buffers": "rotary frequencies",
    "workspaces": "cuBLAS, one a thread: the main one and autograd's",
    "batch": "ids, labels and mask, 8 bytes each a token; the rotary tables; the mask that blocks share",
    "gradients": "of trained tensors, in their own type, as far as they are there",
    "saved_activations": "what every block and the last norm keep for the backward pass",
    "block_inputs": "with checkpointing: the input of every block, hidden x bytes a token",
    "block": "the one block that is computed or differentiated: its activations and temporaries",
    "logits_and_loss": "logits, their float32 copy, log-probabilities and their gradients",
    "embedding_gradient": "the embeddings' gradient while it is made and added to the output matrix's",
    "step_temporaries": "what the optimizer's step holds besides its state",
    "kv_cache": "keys and values of all blocks: 4 or 8 x key width x layers bytes a token",
    "loading": "the 16-bit tensor that is quantized or cast at that moment",
}


def evaluate(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    """The terms of a job at every moment that can be its peak."""
    if isinstance(job.method, Inference):
        return evaluate_inference(job, architecture, shape, workspace_bytes=workspace_bytes(job.gpu))
    return Breakdown(instants=instants_of(take_apart(job, architecture, shape)))


PEAKVRAM = Formula(
    id="peakvram",
    title="peakvram: every known tensor, from first principles",
    source="this project; docs/formulas.md",
    predicts="peak allocated bytes",
    terms=TERMS,
    evaluate=evaluate,
    refusal=refusal,
)
