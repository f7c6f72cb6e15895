"""What EleutherAI's calculator `calc_transformer_mem.py` says, which differs from its blog post.

Source: EleutherAI/cookbook, calc/calc_transformer_mem.py at commit 069ae2e, on one GPU, with a config's own
L, h, a, v and MLP width, and with its defaults for the rest, as its option for a Hugging Face config leaves
them. Sizes are of 2^30 bytes there; here all are bytes.

Where it leaves the models it is given: it counts two matrices an MLP (`--num-mlp-linears 2`), of three in a
gated one; as many keys as queries; an output matrix beside the embedding always; a table of positions always;
and no experts. With checkpointing it still keeps 34 sbhL, where the paper it follows has 2 sbhL. In inference
its KV cache has one of keys and values, not both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Formula, Quantity, Shape
from profiler.formula.others.eleutherai import STATE_BYTES, model_bytes
from profiler.formula.others.facts import at_peak, first_of, only, only_dense, only_optimizers
from profiler.formula.others.megatron import activations_bytes, scores_bytes
from profiler.jobs.job import Inference, JobSpec

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.choices import Optimizer


def num_parameters(architecture: Architecture, seq_len: Quantity) -> Quantity:
    """Its own count: 2vh + hs + 8hL + 2h + 4Lh^2 + 2L h (MLP width)."""
    hidden, layers = architecture.hidden_size, architecture.num_layers
    embeddings = 2 * architecture.vocab_size * hidden + hidden * seq_len
    norms = 8 * hidden * layers + 2 * hidden
    return embeddings + norms + layers * hidden * (4 * hidden + 2 * architecture.intermediate_size)


def gradients_bytes(parameters: Quantity) -> Quantity:
    """4 bytes a parameter (`--bytes-per-grad-ele`)."""
    return 4 * parameters


def optimizer_bytes(parameters: Quantity, optimizer: Optimizer) -> Quantity:
    """12 bytes a parameter for Adam; 6 for an 8-bit one and 8 for SGD, as its comment says to set them."""
    return parameters * STATE_BYTES[optimizer]


def kv_cache_bytes(architecture: Architecture, tokens: Quantity) -> Quantity:
    """2 bytes * h * L * (s + generated tokens) * b."""
    return 2 * architecture.hidden_size * architecture.num_layers * tokens


def inference_activations_bytes(architecture: Architecture, tokens: Quantity) -> Quantity:
    """34 sbh, of a single layer."""
    return 34 * tokens * architecture.hidden_size


def _evaluate_training(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    parameters = num_parameters(architecture, shape.seq_len)
    terms = {
        "weights": parameters * model_bytes(1, precision=job.precision),
        "gradients": gradients_bytes(parameters),
        "optimizer": optimizer_bytes(parameters, job.optimizer),
        "activations": activations_bytes(architecture, shape.tokens, is_recomputed=False),
    }
    if not job.gradient_checkpointing.enabled:
        terms["scores"] = scores_bytes(architecture, shape)
    return at_peak(terms)


def _evaluate_inference(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    assert isinstance(job.method, Inference)
    parameters = num_parameters(architecture, shape.seq_len)
    context = shape.batch_size * (shape.seq_len + job.method.new_tokens)
    return at_peak(
        {
            "weights": parameters * model_bytes(1, precision=job.precision),
            "activations": inference_activations_bytes(architecture, shape.tokens),
            "kv_cache": kv_cache_bytes(architecture, context),
        }
    )


def _evaluate(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    evaluate = _evaluate_inference if isinstance(job.method, Inference) else _evaluate_training
    return evaluate(job, architecture, shape)


def _refuse_quantized(job: JobSpec, _: Architecture) -> str | None:
    is_quantized = isinstance(job.method, Inference) and job.method.quant != "none"
    return "it knows weights of 32 and 16 bits only" if is_quantized else None


ELEUTHERAI_CALC = Formula(
    id="eleutherai-calc",
    title="EleutherAI cookbook, calc_transformer_mem.py",
    source="EleutherAI/cookbook, calc/calc_transformer_mem.py at 069ae2e",
    predicts="tensors at the end of the forward pass",
    terms={
        "weights": "its own count of parameters * 2; * 4 in fp32",
        "gradients": "its count * 4",
        "optimizer": "its count * 12 for Adam, 6 for an 8-bit one, 8 for SGD",
        "activations": "34 sbhL, with checkpointing too; 34 sbh in inference",
        "scores": "5 a s^2 b L without checkpointing, whatever the attention",
        "kv_cache": "2 * h * L * (s + generated tokens) * b",
    },
    evaluate=_evaluate,
    refusal=first_of(only("full", "inference"), only_dense, only_optimizers(*STATE_BYTES), _refuse_quantized),
)
