"""A real card beside its virtual twin, event by event."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from profiler.cli.app import run_command
from profiler.errors import EnvironmentUnfitError
from profiler.hardware.discovery import find_real_gpus
from profiler.hardware.idle import inspect_idle
from profiler.verify.folder import TwinComparison
from profiler.verify.parting import Likeness

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> TwinComparison:
    """The smallest model with every method, on the first real card on which nobody computes."""
    try:
        gpus = find_real_gpus().gpus
    except EnvironmentUnfitError as error:
        pytest.skip(f"no real GPU: {error.message}")
    free = [gpu for gpu in gpus if not inspect_idle(gpu).busy]
    if not free:
        pytest.skip("others compute on every GPU")
    directory: Path = tmp_path_factory.mktemp("verify")
    jobs = {"name": "jobs", "base": {"model": "smollm2-135m", "seq_len": 512, "batch_size": 2, "steps": 2}}
    (directory / "jobs.json").write_text(json.dumps({**jobs, "axes": {"method": ["full", "lora", "qlora"]}}))
    arguments = ["--gpu", f"real:{free[0].index}", "--out", str(directory / "out")]
    run_command(["verify", str(directory / "jobs.json"), *arguments])
    return TwinComparison.model_validate_json((directory / "out" / "differences.json").read_text())


def test_every_figure_of_every_phase_is_the_same(comparison: TwinComparison) -> None:
    told = {job.verdict: (job.reason, job.figures) for job in comparison.jobs}
    assert set(told) <= {Likeness.IDENTICAL, Likeness.SAME_FIGURES}, told


def test_up_to_the_backward_pass_every_event_is_the_same(comparison: TwinComparison) -> None:
    for job in comparison.jobs:
        unlike = {str(phase.phase) for phase in job.unlike_phases}
        assert not unlike & {"load", "prepare", "adapt", "optimizer", "forward"}, job.first_difference


def test_the_twin_has_the_figures_of_the_card(comparison: TwinComparison) -> None:
    card, twin = comparison.card, comparison.twin
    assert (card.kind, twin.kind) == ("real", "virtual")
    assert (card.name, card.total_bytes, card.num_sms) == (twin.name, twin.total_bytes, twin.num_sms)
    assert card.compute_capability == twin.compute_capability
