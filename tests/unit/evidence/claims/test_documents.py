from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from profiler.errors import ConfigError
from profiler.evidence.claims.arithmetic import Calculation
from profiler.evidence.claims.documents import Arithmetic, Claimed, Runs, Unchecked, load_claims
from profiler.evidence.claims.figures import ClaimFigure, Compare, Unit
from profiler.evidence.claims.judge import ClaimVerdict, unit_of_evidence
from tests.builders import ROOT
from tests.unit.evidence.claims.claims_data import a_claim

if TYPE_CHECKING:
    from pathlib import Path

    from profiler.evidence.claims.documents import Claim

SHIPPED = load_claims()
DOCUMENTS = {
    "component-table-7b",
    "fine-tuning-vram-guide",
    "lora-qlora-full-decision-guide",
    "orbit2x-vram-calculator-guide",
    "qlora-hardware-guide",
}
GRIDS = """
two:
  about: Two lengths.
  base: {model: llama-3.1-8b, gpu: rtx-4090}
  axes: {seq_len: [512, 1024]}
"""
GUIDE = """
title: A guide
author: Somebody
published: "2026"
claims:
  - id: total
    quote: LoRA needs 20 GB
    says: LoRA takes 20 GB.
    assumes: Llama-3.1-8B.
    claimed: [19GB, 21GB]
    evidence: {kind: runs, grid: two, figure: device}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "grids.yaml").write_text(GRIDS)
    (tmp_path / "guide.yaml").write_text(GUIDE)
    return tmp_path


def bounds(claim: Claim) -> list[float]:
    assert claim.claimed is not None
    return [end for end in (claim.claimed.low, claim.claimed.high) if end is not None]


def test_every_document_is_there() -> None:
    assert {document.id for document in SHIPPED.documents} == DOCUMENTS


def test_there_are_at_least_90_claims_and_80_that_are_checked() -> None:
    assert len(SHIPPED.claims) >= 90
    assert sum(not isinstance(claim.evidence, Unchecked) for claim in SHIPPED.claims) >= 80


def test_at_least_80_claims_of_different_words_are_checked() -> None:
    """Two readings of one sentence are two claims, but not two of the 80."""
    checked = {claim.quote for claim in SHIPPED.claims if not isinstance(claim.evidence, Unchecked)}
    assert len(checked) >= 80


def test_no_two_claims_share_an_id() -> None:
    counts = Counter(claim.id for claim in SHIPPED.claims)
    assert [name for name, number in counts.items() if number > 1] == []


@pytest.mark.parametrize("claim", SHIPPED.claims, ids=lambda claim: claim.id)
def test_a_claim_says_what_its_evidence_can_answer(claim: Claim) -> None:
    unit = unit_of_evidence(claim.evidence)
    if unit is None:
        assert claim.claimed is None
        return
    ends = bounds(claim)
    assert ends, "a range open at both ends claims nothing"
    assert ends == sorted(ends)
    assert claim.assumes, "what the author leaves open must be said"
    if unit is Unit.BYTES:
        assert all(isinstance(end, int) for end in ends), "a size is written with its unit"
    if unit is Unit.FIT:
        assert ends in ([0.0, 0.0], [1.0, 1.0])


def test_a_quotation_is_short() -> None:
    assert [claim.id for claim in SHIPPED.claims if len(claim.quote) > 120] == []


def test_every_grid_is_used_and_says_what_it_is() -> None:
    used = {claim.evidence.grid for claim in SHIPPED.claims if isinstance(claim.evidence, Runs)}
    assert set(SHIPPED.grids) == used
    assert all(grid.about.endswith(".") for grid in SHIPPED.grids.values())


def test_the_documents_show_no_place_on_a_machine() -> None:
    text = SHIPPED.model_dump_json()
    assert "/work" not in text
    assert "/tmp" not in text


@pytest.mark.parametrize(
    ("written", "low", "high"),
    [
        ("15GB", 15 * 10**9, 15 * 10**9),
        (["14 GB", "16GiB"], 14 * 10**9, 16 << 30),
        (["80GB", None], 80 * 10**9, None),
        ([None, 3], None, 3),
        (2, 2, 2),
        ("fits", 0, 0),
        ("does not fit", 1, 1),
    ],
)
def test_a_range_is_read_as_it_is_written(written: object, low: float | None, high: float | None) -> None:
    assert a_claim(claimed=written).claimed == Claimed(low=low, high=high)


@pytest.mark.parametrize("written", ["14 parsecs", ["1GB"], -1, "nan", [1, 2, 3]])
def test_what_is_no_range_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        a_claim(claimed=written)


def test_a_file_is_a_document(directory: Path) -> None:
    found = load_claims(directory)
    assert [document.id for document in found.documents] == ["guide"]
    assert found.document("guide").claims[0].claimed == Claimed(low=19 * 10**9, high=21 * 10**9)
    assert isinstance(found.claims[0].evidence, Runs)


def test_an_unknown_document_names_the_nearest(directory: Path) -> None:
    with pytest.raises(ConfigError, match="there is no document 'giude'") as caught:
        load_claims(directory).document("giude")
    assert caught.value.hint == "did you mean 'guide'?"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("figure: device", "figure: colour", r"guide.yaml: claims.0.evidence.runs.figure"),
        ("kind: runs", "kind: guess", r"guide.yaml: claims.0.evidence"),
        ("quote: LoRA needs 20 GB", "quote: ''", r"guide.yaml: claims.0.quote"),
        ("id: total", "id: A Total", r"guide.yaml: claims.0.id"),
        ("says:", "sais:", r"guide.yaml: claims.0.says: Field required"),
        ("author: Somebody", "", r"guide.yaml: author"),
    ],
)
def test_a_mistake_is_named_with_its_place(directory: Path, before: str, after: str, message: str) -> None:
    (directory / "guide.yaml").write_text(GUIDE.replace(before, after))
    with pytest.raises(ConfigError, match=message):
        load_claims(directory)


def test_two_documents_cannot_share_a_claim_s_id(directory: Path) -> None:
    (directory / "other.yaml").write_text(GUIDE)
    with pytest.raises(ConfigError, match="two claims are called 'total'"):
        load_claims(directory)


def test_one_document_cannot_use_an_id_twice(directory: Path) -> None:
    (directory / "guide.yaml").write_text(GUIDE + GUIDE.partition("claims:\n")[2])
    with pytest.raises(ConfigError, match="two claims are called 'total'"):
        load_claims(directory)


def test_a_grid_without_jobs_is_refused(directory: Path) -> None:
    (directory / "grids.yaml").write_text("two: {about: Nothing.}")
    with pytest.raises(ConfigError, match=r"grids.yaml: two.base"):
        load_claims(directory)


def test_the_three_kinds_of_evidence_are_all_used() -> None:
    assert {type(claim.evidence) for claim in SHIPPED.claims} == {Runs, Arithmetic, Unchecked}


def test_the_guide_names_every_figure_comparison_and_calculator() -> None:
    guide = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    names = [str(name) for kind in (ClaimFigure, Compare, Calculation, ClaimVerdict) for name in kind]
    assert [name for name in names if f"`{name}`" not in guide] == []
