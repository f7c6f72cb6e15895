"""What an estimate is as plain data, for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from profiler.estimate.estimate import Estimate, single

if TYPE_CHECKING:
    from profiler.estimate.apply import Band
    from profiler.estimate.estimate import Estimated
    from profiler.estimate.factors import FactorFile
    from profiler.formula.breakdown import Formula

Tree = dict[str, object]


def estimate_tree(estimated: Estimated, *, factors: FactorFile | None) -> Tree:
    """Everything that an estimate says, in bytes; of a refusal the reason."""
    return {
        "spec": estimated.spec.model_dump(mode="json"),
        "formula": _formula(estimated.formula),
        **summary_tree(estimated),
        **(
            {
                "card": asdict(estimated.card),
                "instants": _instants(estimated),
                "notes": list(estimated.notes),
            }
            if isinstance(estimated, Estimate)
            else {}
        ),
        "fitted_on": _fitted_on(estimated.formula, factors),
    }


def summary_tree(estimated: Estimated) -> Tree:
    """The figures and the verdict alone."""
    if not isinstance(estimated, Estimate):
        return {"refusal": estimated.reason}
    corrected, verdict = estimated.corrected, estimated.verdict
    return {
        "instant": corrected.breakdown.peak.name,
        "allocated": _band(corrected.allocated),
        "reserved": _band(corrected.reserved),
        "device_used": _band(corrected.device_used),
        "verdict": {"fits": str(verdict.fits), "room_bytes": verdict.room_bytes, "reason": verdict.reason},
    }


def _formula(formula: Formula) -> Tree:
    return {
        "id": formula.id,
        "title": formula.title,
        "source": formula.source,
        "predicts": formula.predicts,
        "terms": dict(formula.terms),
    }


def _instants(estimate: Estimate) -> list[Tree]:
    pairs = zip(estimate.breakdown.instants, estimate.corrected.breakdown.instants, strict=True)
    return [
        {
            "name": own.name,
            "total_bytes": own.total_bytes,
            "corrected_total_bytes": corrected.total_bytes,
            "terms": [
                {"name": name, "bytes": count, "corrected_bytes": single(corrected.terms[name])}
                for name, count in own.terms.items()
            ],
        }
        for own, corrected in pairs
    ]


def _band(band: Band | None) -> Tree | None:
    return asdict(band) if band else None


def _fitted_on(formula: Formula, factors: FactorFile | None) -> object:
    is_fitted = factors is not None and formula.id in factors.formulas
    return factors.fitted_on.model_dump(mode="json") if factors is not None and is_fitted else None
