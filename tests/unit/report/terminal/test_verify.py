from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from profiler.records.schema import PhaseName
from profiler.report.base.twins import job_label
from profiler.report.markdown.comparisons import twins_readme
from profiler.report.terminal.comparisons import show_twins
from profiler.units import GIB
from profiler.verify.folder import TwinComparison
from profiler.verify.parting import compare_runs, refused
from profiler.verify.twin import CatalogueDifference
from tests.builders import a_device, a_job, a_phase, a_real_device, a_record, a_report, a_run, an_environment
from tests.unit.verify.histories import a_small_history

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


@pytest.fixture
def comparison() -> TwinComparison:
    """A job that is identical, one whose events differ, one whose figures do, and one that was not run."""
    job = a_job(gpu="real:0")
    real = a_record(spec=job, report=a_report(device=a_real_device()))
    phases = (*a_run()[:-1], a_phase(PhaseName.ZERO_GRAD, 1, end=6 * GIB + 512, peak=7 * GIB))
    more = a_record(spec=job, report=a_report(device=a_real_device(), phases=phases))
    same, others = a_small_history(("free", 512, 0)), a_small_history(("alloc", 4096, 3), ("free", 512, 0))
    return TwinComparison(
        peakvram="0.1.0",
        card=a_real_device(uuid=None),
        twin=a_device(reason="it is its twin"),
        catalogue_id="rtx-4090",
        catalogue_figures=(CatalogueDifference(figure="l2_cache_bytes", catalogue=None, card=1024),),
        environment=an_environment(),
        jobs=(
            compare_runs(real, a_record(), same, same),
            compare_runs(real, a_record(), others, same),
            compare_runs(more, a_record(), same, a_small_history()),
            refused(a_job(model="[bold]x", attention="eager"), "there is no [bold]x"),
        ),
    )


def test_a_comparison_on_a_terminal(comparison: TwinComparison, snapshot: SnapshotAssertion) -> None:
    written = StringIO()
    show_twins(Console(file=written, width=140), comparison)
    assert "\n".join(line.rstrip() for line in written.getvalue().splitlines()) == snapshot


def test_the_page_of_a_contributed_folder(comparison: TwinComparison, snapshot: SnapshotAssertion) -> None:
    assert twins_readme(comparison) == snapshot


def test_a_job_is_named_by_what_sets_it_apart() -> None:
    job = a_job(model="/home/me/tiny", method="lora", attention_mask="none", steps=2)
    assert job_label(job) == "tiny, lora r16, batch 1 x 2048, attention_mask none"
