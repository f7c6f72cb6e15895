"""What stands below a run's figures of the host's memory."""

from __future__ import annotations

from profiler.records.schema import HostMemory, PhaseName
from profiler.report.base.describe import host_text
from profiler.units import GIB
from tests.builders import a_phase


def test_the_phase_that_takes_most_of_the_host_is_named_with_how_it_is_known() -> None:
    phases = [
        a_phase(name, end=0, peak=0).model_copy(
            update={"host": HostMemory(source="computed", peak_bytes=size)}
        )
        for name, size in ((PhaseName.LOAD, 3 * GIB), (PhaseName.PREPARE, 0), (PhaseName.SAVE, 2 * GIB))
    ]
    told = "host memory (computed): 3.00 GiB at most, in load, besides Python and its libraries"
    assert host_text(phases) == told
    measured = phases[2].model_copy(update={"host": HostMemory(source="measured", peak_bytes=GIB)})
    assert host_text([measured]) == "host memory (measured): 1.00 GiB at most, in save"
    assert host_text([phases[1]]) is None
    assert host_text([a_phase(PhaseName.LOAD, end=0, peak=0)]) is None
