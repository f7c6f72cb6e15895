"""A formula and records of it that are made up, with factors that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.fit.sample import Sample, sample_of
from profiler.fit.solve import Design
from profiler.formula.breakdown import Breakdown, Formula, Instant, shape_of
from profiler.formula.configs import architecture_of
from profiler.records.schema import Outcome, OutcomeStatus, Parameters, PhaseName
from profiler.units import MIB
from tests.builders import OK, a_device, a_job, a_phase, a_record, a_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike

    from profiler.estimate.factors import Where
    from profiler.formula.architecture import Architecture
    from profiler.formula.breakdown import Shape
    from profiler.jobs.job import JobSpec
    from profiler.records.schema import Record

MODELS = ("smollm2-135m", "qwen2.5-0.5b", "tinyllama-1.1b", "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")
CONTEXT = 426 * MIB
OUT_OF_MEMORY = Outcome(status=OutcomeStatus.OOM)


def _evaluate(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    weights = 2 * architecture.num_parameters
    states = 4 * architecture.num_parameters if job.method.kind == "full" else 0
    saved = shape.tokens * (architecture.hidden_size * architecture.num_layers * 16)
    return Breakdown(
        instants=(
            Instant(name="backward", terms={"weights": weights, "activations": saved}),
            Instant(name="step", terms={"weights": weights, "optimizer": states}),
        )
    )


def _refuse_qlora(job: JobSpec, _: Architecture) -> str | None:
    return "it knows nothing of 4 bits" if job.method.kind == "qlora" else None


MADE_UP = Formula(
    id="made-up",
    title="made up for tests",
    source="nowhere",
    predicts="tensors at the peak",
    terms={"weights": "2 N", "activations": "16 b s h L", "optimizer": "4 N"},
    evaluate=_evaluate,
    refusal=_refuse_qlora,
)
SILENT = Formula(
    id="silent",
    title="says nothing",
    source="nowhere",
    predicts="nothing",
    terms={},
    evaluate=_evaluate,
    refusal=lambda _job, _architecture: "it speaks of nothing",
)


def a_measured_job(
    spec: JobSpec,
    *,
    allocated: int,
    reserved: int | None = None,
    device: int | None = None,
    outcome: Outcome = OK,
    num_alloc_retries: int = 0,
    **of_device: Any,
) -> Record:
    """A record with these peaks; if not told, reserved is allocated, and device use that and the context."""
    held = allocated if reserved is None else reserved
    phase = a_phase(
        PhaseName.BACKWARD,
        0,
        end=0,
        peak=allocated,
        reserved_peak_bytes=held,
        device_used_peak_bytes=held + CONTEXT if device is None else device,
        num_alloc_retries=num_alloc_retries,
    )
    card = a_device(id=spec.gpu, context_bytes=CONTEXT, **of_device)
    few = Parameters(total=1, trainable=1)
    report = a_report(phases=(phase,), device=card, parameters=few)
    return a_record(spec=spec, report=report, outcome=outcome)


def jobs(
    *, models: Iterable[str] = MODELS, methods: Iterable[str] = ("full", "lora"), **changes: Any
) -> list[JobSpec]:
    """A grid of jobs: every model and method, four shapes of the batch."""
    shapes = [(1, 512), (2, 2048), (4, 4096), (8, 8192)]
    return [
        a_job(model=model, method=method, batch_size=batch_size, seq_len=seq_len, **changes)
        for model in models
        for method in methods
        for batch_size, seq_len in shapes
    ]


def true_bytes(spec: JobSpec, factors: Mapping[str, float]) -> int:
    """What a job takes where these are the factors of the made-up formula."""
    breakdown = _evaluate(spec, architecture_of(spec.model), shape_of(spec))
    return max(
        sum(round(int(quantity) * factors.get(term, 1.0)) for term, quantity in instant.terms.items())
        for instant in breakdown.instants
    )


def a_sample(factors: Mapping[str, float], *, specs: Iterable[JobSpec] | None = None) -> Sample:
    """Records of jobs for which these are the factors; reserved memory is 5 % more than allocated."""
    records = []
    for spec in jobs() if specs is None else specs:
        allocated = true_bytes(spec, factors)
        records.append(a_measured_job(spec, allocated=allocated, reserved=round(allocated * 1.05)))
    return sample_of(records, studies=["made-up"])


def a_design(
    shares: ArrayLike,
    *,
    target: ArrayLike | None = None,
    owners: ArrayLike | None = None,
    neutral: float = 1.0,
    conditions: Iterable[Where] | None = None,
) -> Design:
    """A design of such shares; if not told, each record is of a model of its own."""
    values = np.asarray(shares, dtype=float)
    num_records = len(values)
    return Design(
        shares=values,
        target=np.ones(num_records) if target is None else np.asarray(target, dtype=float),
        owners=np.arange(num_records) if owners is None else np.asarray(owners),
        neutral=np.full(values.shape[2], neutral),
        conditions=({},) * num_records if conditions is None else tuple(conditions),
    )
