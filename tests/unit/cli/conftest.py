from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.cli.scheduler import SWEEP, Rerun, Scheduler, SweepOptions


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scheduler:
    """Runs in a directory that holds `sweep.yaml`, with no job ever started."""
    scheduler = Scheduler()
    pending, schedule = ModuleType("profiler.execute.pending"), ModuleType("profiler.execute.schedule")
    for module in (pending, schedule):
        assert find_spec(module.__name__), "what is stood in for has another name now"
        monkeypatch.setitem(sys.modules, module.__name__, module)
    pending.__dict__.update(
        Rerun=Rerun,
        pending_jobs=lambda jobs, store, *, rerun=Rerun.MISSING: scheduler.pending_jobs(
            jobs, store, rerun=rerun
        ),
    )
    schedule.__dict__.update(SweepOptions=SweepOptions, run_sweep=scheduler.run_sweep)
    monkeypatch.chdir(tmp_path)
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    Path("sweep.yaml").write_text(SWEEP)
    return scheduler
