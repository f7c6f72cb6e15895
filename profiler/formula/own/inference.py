"""What generating holds: the prompt's pass through all blocks, then one token after the other.

Follows transformers' `generate()` (5.x) with its `DynamicCache`, checked against the caching allocator's
history. Without gradients nothing is saved: what adds up from block to block is the cache alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.formula.breakdown import Breakdown, Instant
from profiler.formula.own.attention import AttentionCost
from profiler.formula.own.blocks.llama import LlamaBlock
from profiler.formula.own.ledger import rounded
from profiler.formula.own.linear import FLOAT32
from profiler.formula.own.resident import (
    buffers_bytes,
    loading_bytes,
    quantization_state_bytes,
    weights_bytes,
)
from profiler.formula.own.scheme import Scheme, scheme_of
from profiler.jobs.job import Inference

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Quantity, Shape
    from profiler.jobs.job import JobSpec

INT64 = 8
NUM_TOKEN_TENSORS = 4
"""Of a number a token each: ids, mask, and the positions that `generate()` makes of it, twice."""


def evaluate_inference(
    job: JobSpec, architecture: Architecture, shape: Shape, *, workspace_bytes: int
) -> Breakdown:
    """The terms of a generating job: once loaded, at the prompt's pass, and at the last token's."""
    assert isinstance(job.method, Inference), job.method.kind
    scheme = scheme_of(job)
    weights: dict[str, Quantity] = {
        "weights": weights_bytes(architecture, scheme),
        "quantization_state": quantization_state_bytes(architecture, scheme),
        "buffers": buffers_bytes(architecture),
    }
    held: dict[str, Quantity] = {
        **weights,
        "workspaces": workspace_bytes,
        "batch": NUM_TOKEN_TENSORS * INT64 * shape.tokens,
    }
    loading = Instant(name="loading", terms={**weights, "loading": loading_bytes(architecture, scheme)})
    prefill = Instant(
        name="prefill",
        terms={
            **held,
            "kv_cache": _cache_bytes(architecture, scheme, shape.tokens),
            "block": _prefill_block(job, architecture, scheme, shape),
        },
    )
    if job.method.new_tokens == 1:  # the prompt's pass gives the first token
        return Breakdown(instants=(loading, prefill))
    # The last token is not fed back.
    num_cached = shape.tokens + shape.batch_size * (job.method.new_tokens - 1)
    layer = _cache_bytes(architecture, scheme, num_cached) // architecture.num_layers
    decode = Instant(
        name="decode",
        terms={
            **held,
            "kv_cache": _cache_bytes(architecture, scheme, num_cached),
            "block": layer // 2,  # a block's keys, which are copied to make room for one more
            "logits_and_loss": shape.batch_size * (architecture.vocab_size * (scheme.others + FLOAT32)),
        },
    )
    return Breakdown(instants=(loading, prefill, decode))


def _cache_bytes(architecture: Architecture, scheme: Scheme, num_tokens: Quantity) -> Quantity:
    """Keys and values of all blocks."""
    return 2 * architecture.num_layers * rounded(num_tokens * (architecture.kv_width * scheme.linear))


def _prefill_block(job: JobSpec, architecture: Architecture, scheme: Scheme, shape: Shape) -> Quantity:
    """The most that the prompt's pass holds besides the cache: at the last block, when the cache is full."""
    attention = AttentionCost(
        job=job, architecture=architecture, scheme=scheme, shape=shape, is_windowed=False
    )
    block = PromptBlock(attention)
    block.ledger.hold("embeddings", block.stream)
    rotary = 2 * shape.tokens * (architecture.head_dim * scheme.stream)
    block.ledger.hold("rotary", rotary + attention.mask_bytes)
    block.ledger.hold("input", block.stream)
    block.forward()
    return block.ledger.peak_bytes


class PromptBlock(LlamaBlock):
    """A block through which the prompt passes; nothing is saved."""

    def forward(self) -> None:
        """Holds nothing but `output` in the end; keys and values go into the cache, which is not counted."""
        ledger = self.ledger
        self._normed("input_norm")
        for name in ("q", "k"):
            self._project(name)
            normed = f"{name}.normed"
            ledger.release_if_held(f"{name}_proj", normed, f"{normed}.input", f"{normed}.deviations")
            ledger.hold(f"{name}_proj", self._rotated(name))
        self.layers["v_proj"].forward()
        for name in ("q", "k"):
            size = self._rotated(name)
            ledger.pulse(size, size, size)
            ledger.hold(f"{name}.rotated", size)
        ledger.release("q_proj", "k_proj")
        self.attention.forward(ledger)
        ledger.release_if_held(
            "scores.capped", "probabilities", "probabilities.narrow", "normalizers", "bias"
        )
        self.layers["o_proj"].forward()
        ledger.release_if_held("q.rotated", "k.rotated", "v_proj", "keys.repeated", "values.repeated")
        ledger.release("attended", "input_norm")
        ledger.replace("o_proj", "middle", self.stream)
        self._normed("middle_norm")  # the input is held on by the loop over the blocks
        self._gated_mlp()
        ledger.hold("output", self.stream)
        ledger.release("down_proj", "middle_norm", "middle", "input")

    def _normed(self, name: str) -> None:
        self._norm(name).forward()
        self.ledger.release_if_held(f"{name}.input", f"{name}.deviations")

    def _gated_mlp(self) -> None:
        ledger = self.ledger
        self.layers["gate_proj"].forward()
        ledger.replace("gate_proj", "activated", self._inner)
        self.layers["up_proj"].forward()
        ledger.hold("product", self._inner)
        ledger.release("activated", "up_proj")
        self.layers["down_proj"].forward()
        ledger.release("product")
