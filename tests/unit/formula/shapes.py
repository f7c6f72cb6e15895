"""Small architectures and jobs for the tests of formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.formula.breakdown import Breakdown, Formula, Shape, shape_of
from profiler.formula.configs import architecture_of, read_architecture
from tests.builders import a_job

if TYPE_CHECKING:
    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec

LLAMA_2_7B = architecture_of("llama-2-7b")
"""The model of the guides' examples: 32 blocks, width 4096."""


def a_model(**changes: object) -> Architecture:
    """A small Llama-like model."""
    config = {
        "model_type": "llama",
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    }
    return read_architecture(config | changes)


def a_tuning(kind: str, **changes: Any) -> JobSpec:
    """A training job of a method; keys of the method are given as `method_rank=8`."""
    of_method = [key for key in changes if key.startswith("method_")]
    method = {key.removeprefix("method_"): changes.pop(key) for key in of_method}
    return a_job(method={"kind": kind, **method}, **changes)


def breakdown_of(formula: Formula, job: JobSpec, architecture: Architecture = LLAMA_2_7B) -> Breakdown:
    assert formula.refusal(job, architecture) is None
    return formula.evaluate(job, architecture, shape_of(job))


def terms_of(formula: Formula, job: JobSpec, architecture: Architecture = LLAMA_2_7B) -> dict[str, int]:
    """The terms of a formula that names no moment."""
    (instant,) = breakdown_of(formula, job, architecture).instants
    return {name: int(quantity) for name, quantity in instant.terms.items()}


def gigabytes(formula: Formula, job: JobSpec, architecture: Architecture = LLAMA_2_7B) -> float:
    """The peak in GB of 10^9, as the guides count."""
    return int(breakdown_of(formula, job, architecture).peak_bytes) / 1e9


def a_shape(batch_size: int, seq_len: int) -> Shape:
    return Shape(batch_size=batch_size, seq_len=seq_len)
