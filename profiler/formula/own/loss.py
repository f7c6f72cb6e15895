"""What the output matrix, the logits and the loss hold, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.formula.own.ledger import Ledger
from profiler.formula.own.linear import FLOAT32
from profiler.formula.own.norm import norm_of
from profiler.jobs.choices import Loop

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity, Shape
    from profiler.formula.own.scheme import Scheme
    from profiler.jobs.job import JobSpec

INT64 = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCost:
    """Bytes of logits and loss.

    Attributes:
        saved: what the last norm saves for its backward pass, and the output matrix of its input.
        forward: the most that is held while the loss is computed, besides `saved`.
        backward: the most that is held while it is differentiated, besides `saved`.
        norm: the most that is held while the last norm is differentiated, `saved` and `kept` included.
        kept: what the training loop itself keeps of it through the whole backward pass.
    """

    saved: Quantity
    forward: Quantity
    backward: Quantity
    norm: Quantity
    kept: Quantity


def loss_cost(job: JobSpec, architecture: Architecture, scheme: Scheme, shape: Shape) -> LossCost:
    """Follows the last norm, the output matrix and the cross entropy (transformers `loss_utils.py`)."""
    ledger = Ledger()
    tokens, rows = shape.tokens, architecture.vocab_size
    size = scheme.matmul if scheme.base == "plain" else _logit_bytes(scheme)
    logits, wide = tokens * (rows * size), tokens * (rows * FLOAT32)
    saved = _saved_bytes(architecture, scheme, tokens)
    ledger.hold("logits", logits)
    if architecture.model_type == "gemma2":
        ledger.hold("logits.capped", logits)  # their tangent, times the cap
    if size < FLOAT32:
        ledger.hold("logits.wide", wide)
    ledger.hold("labels", tokens * INT64)
    ledger.hold("log_softmax", wide)
    forward = ledger.peak_bytes
    ledger.release_if_held("logits.wide")
    if job.loop is Loop.TRAINER:
        ledger.release("logits")
    ledger.restart_peak()
    ledger.pulse(wide, wide)  # the gradient of the log-probabilities, then that of the logits
    kept = 0 if job.loop is Loop.TRAINER else logits
    return LossCost(
        saved=saved,
        forward=forward,
        backward=ledger.peak_bytes,
        norm=kept + _norm_backward(architecture, scheme, tokens),
        kept=kept,
    )


def _logit_bytes(scheme: Scheme) -> int:
    return 2 if scheme.autocast else scheme.tables


def _saved_bytes(architecture: Architecture, scheme: Scheme, tokens: Quantity) -> Quantity:
    """The last norm's input as float32, and where weights train its result and the matrix's input.

    Under autocast also the output matrix's 16-bit copy.
    """
    hidden = architecture.hidden_size
    if architecture.has_norm_bias:  # a layer norm: its very input, and two moments a token
        saved = tokens * (hidden * scheme.stream) + 2 * (tokens * FLOAT32)
        result = scheme.matmul
    else:
        saved = tokens * (hidden * FLOAT32)
        result = (FLOAT32 if architecture.model_type == "gemma2" else scheme.stream) + scheme.matmul
    if scheme.trains_weights:
        saved = saved + tokens * (hidden * result)
    if scheme.autocast and scheme.tables == FLOAT32:
        saved = saved + hidden * architecture.vocab_size * scheme.matmul
    return saved


def _norm_backward(architecture: Architecture, scheme: Scheme, tokens: Quantity) -> Quantity:
    """The most that the last norm holds while it is differentiated, its saved tensors included."""
    ledger, stream = Ledger(), tokens * (architecture.hidden_size * scheme.stream)
    norm = norm_of(architecture, scheme, ledger, tokens, name="last_norm")
    if norm.saves_input:
        ledger.hold("input", stream)
    norm.forward()
    ledger.release("last_norm")
    ledger.hold("gradient", stream)
    ledger.restart_peak()
    norm.backward("gradient")
    return ledger.peak_bytes
