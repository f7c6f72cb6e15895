from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tests.unit.cli.scheduler import SWEEP, Scheduler


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scheduler:
    """Runs in a directory that holds `sweep.yaml`, with no job ever started."""
    scheduler = Scheduler()
    for module in ("profiler.execute.pending", "profiler.estimate.plan", "profiler.cli.sweep"):
        monkeypatch.setattr(import_module(module), "pending_jobs", scheduler.pending_jobs)
    for module in ("profiler.execute.schedule", "profiler.cli.sweep"):
        monkeypatch.setattr(import_module(module), "run_sweep", scheduler.run_sweep)
    monkeypatch.chdir(tmp_path)
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    Path("sweep.yaml").write_text(SWEEP)
    return scheduler
