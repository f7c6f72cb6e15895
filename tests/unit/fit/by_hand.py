"""A formula of two instants and factors for it, small enough to work out estimates by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from profiler.estimate.factors import (
    Correction,
    Factor,
    FactorFile,
    FactorGroup,
    FittedOn,
    FormulaFactors,
    IntervalGroup,
)
from profiler.formula.breakdown import Breakdown, Formula, Instant, Shape
from profiler.jobs.choices import Precision
from profiler.jobs.job import Full

if TYPE_CHECKING:
    import pytest

    from profiler.formula.architecture import Architecture
    from profiler.jobs.job import JobSpec


def evaluate(job: JobSpec, architecture: Architecture, shape: Shape) -> Breakdown:
    """Weights and activations at the end of forward; weights and logits in the loss."""
    weights = architecture.num_parameters * (4 if job.precision is Precision.FP32 else 2)
    kept = 1 if job.gradient_checkpointing.enabled else 17
    activations = 2 * kept * architecture.num_layers * architecture.hidden_size * shape.tokens
    logits = 4 * architecture.vocab_size * shape.tokens
    return Breakdown(
        instants=(
            Instant(name="forward end", terms={"weights": weights, "activations": activations}),
            Instant(name="loss", terms={"weights": weights, "logits": logits}),
        )
    )


def refuse_full(job: JobSpec, _architecture: Architecture) -> str | None:
    return "it speaks of adapters only" if isinstance(job.method, Full) else None


def a_formula(**changes: Any) -> Formula:
    values: dict[str, Any] = {
        "id": "peakvram",
        "title": "weights, activations and logits",
        "source": "made up",
        "predicts": "bytes in tensors",
        "terms": {"weights": "P x b", "activations": "2 L h t", "logits": "4 v t"},
        "evaluate": evaluate,
        "refusal": refuse_full,
    }
    return Formula(**(values | changes))


def a_part(factors: dict[str, Factor], *others: FactorGroup) -> Correction:
    """The same factors for every job but those of other groups, and the same interval for all."""
    every_job = FactorGroup(where={}, factors=factors, num_records=400, num_models=12)
    interval = IntervalGroup(where={}, low=0.98, high=1.03, num_records=400)
    return Correction(factors=(every_job, *others), intervals=(interval,))


def a_factor(value: float, *, reason: str = "") -> Factor:
    if reason:
        return Factor(value=1.0, low=1.0, high=1.0, status="undetermined", reason=reason)
    return Factor(value=value, low=value * 0.99, high=value * 1.01)


def factors_of_the_formula() -> FormulaFactors:
    terms = {
        "weights": a_factor(1.0),
        "activations": a_factor(1.2),
        "logits": a_factor(1.0, reason="no record has much of it"),
    }
    of_lora = FactorGroup(
        where={"method": "lora"}, factors=terms | {"weights": a_factor(1.1)}, num_records=90, num_models=12
    )
    return FormulaFactors(
        allocated=a_part(terms, of_lora),
        reserved_gap=a_part({"constant": a_factor(100.0), "activations": a_factor(0.05)}),
        device_gap=a_part({"context": a_factor(1.0), "constant": a_factor(0.0)}),
    )


def some_factors(**formulas: FormulaFactors) -> FactorFile:
    return FactorFile(
        schema_version=1,
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
        fitted_on=FittedOn(
            device_kinds=("virtual",),
            studies=("rtx-4090", "a100-80gb"),
            num_records=3012,
            keys_sha256="0" * 64,
            models=("llama-3.2-1b", "llama-3.1-8b"),
            cards=("rtx-4090", "a100-80gb"),
            versions={"torch": ("2.14.1+cu130",)},
        ),
        formulas=formulas or {"peakvram": factors_of_the_formula()},
    )


OTHERS = (
    a_formula(),
    a_formula(id="rule-of-thumb", title="a rule of thumb", refusal=lambda _job, _architecture: None),
    a_formula(
        id="full-only", title="full", refusal=lambda _job, _architecture: "it speaks of full training only"
    ),
)


_USERS = ("formula.catalogue", "estimate.best", "estimate.factors", "estimate.plan", "cli.estimate")
"""Where formulas and factors come from, and the modules that have taken them from there."""


def use_formulas_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find these formulas and factors, and no others."""
    by_hand = {
        "all_formulas": lambda: OTHERS,
        "find_formula": {formula.id: formula for formula in OTHERS}.__getitem__,
        "default_factors": some_factors,
    }
    for module in _USERS:
        for name, value in by_hand.items():
            monkeypatch.setattr(f"profiler.{module}.{name}", value, raising=False)
