"""What `results/scripts` says: a script under `exec` peaks where a real card did, to the byte or a block."""

from __future__ import annotations

import pytest

from profiler.evidence.measurements.published import load_measurements
from profiler.follow.result import CommandResult, CommandStatus
from tests.builders import ROOT

RESULTS = ROOT / "results" / "scripts"
TRANSFORMERS = {"fms-transformers-4.48": "4.48.1", "fms-transformers-4.45": "4.45.2"}
ROWS = {
    "full-4": ("fms-007", "fms-098"),
    "full-8": ("fms-010", "fms-202"),
    "lora-4": ("fms-013", "fms-100"),
    "lora-8": ("fms-016", "fms-206"),
    "qlora-4": ("fms-037", "fms-104"),
    "qlora-8": ("fms-040", "fms-214"),
    "trl-qlora-4": ("fms-019", "fms-102"),
    "trl-qlora-8": ("fms-022", "fms-210"),
}
"""The published row of each job, with either release of transformers."""
DIFFERENCE_BYTES = {"fms-102": -512, "fms-210": -512}
"""Of the rows that do not come out to the byte: a block of the allocator."""


@pytest.mark.parametrize(
    ("job", "environment", "row"),
    [
        (job, environment, row)
        for job, rows in ROWS.items()
        for environment, row in zip(TRANSFORMERS, rows, strict=True)
    ],
)
def test_a_published_peak_comes_out(job: str, environment: str, row: str) -> None:
    text = (RESULTS / f"{job}--{environment}.json").read_text()
    result = CommandResult.model_validate_json(text)
    (process,) = result.processes
    assert (result.status, result.device.kind, result.device.id) == (
        CommandStatus.OK,
        "virtual",
        "a100-80gb",
    )
    assert process.versions["torch"] == "2.4.1+cu121"
    assert process.versions["transformers"] == TRANSFORMERS[environment]
    assert process.reads is not None
    assert process.reads.decisions == 0
    published_bytes = load_measurements()[row].value_bytes
    difference_bytes = DIFFERENCE_BYTES.get(row, 0)
    assert process.allocated_peak_bytes is not None
    assert process.allocated_peak_bytes - published_bytes == difference_bytes
    (line,) = (x for x in (RESULTS / "README.md").read_text().splitlines() if x.startswith(f"| {row} |"))
    assert f"| {published_bytes:,} | {process.allocated_peak_bytes:,} | {difference_bytes} |" in line
