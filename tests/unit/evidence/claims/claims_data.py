"""Small made-up claims for tests."""

from __future__ import annotations

from typing import Any

from profiler.evidence.claims.documents import Claim, ClaimSet, Document, JobGrid

GRID = JobGrid(
    about="Two lengths.",
    base={"model": "llama-3.1-8b", "gpu": "rtx-4090", "method": {"kind": "lora"}},
    axes={"seq_len": (512, 1024)},
)
RUNS = {"kind": "runs", "grid": "two", "figure": "device"}
WEIGHTS = {"kind": "arithmetic", "calculator": "weights", "arguments": {"model": "llama-2-7b", "bits": 16}}


def a_claim(**changes: Any) -> Claim:
    values: dict[str, Any] = {
        "id": "seven",
        "quote": "7B needs 14 GB",
        "says": "The weights of a 7B model take 14 GB.",
        "assumes": "Llama-2-7B.",
        "claimed": "14GB",
        "evidence": WEIGHTS,
    }
    return Claim.model_validate(values | changes)


def a_set(*claims: Claim, **changes: Any) -> ClaimSet:
    document = Document(
        id="a-guide", title="A guide", author="Somebody", published="2026", claims=claims or (a_claim(),)
    )
    return ClaimSet.model_validate({"documents": [document], "grids": {"two": GRID}} | changes)
