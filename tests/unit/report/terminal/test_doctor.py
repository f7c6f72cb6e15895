from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from profiler.doctor.checks import Check, Diagnosis, Status
from profiler.report.terminal.doctor import show_diagnosis

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

GOOD = Check(name="python", status=Status.OK, detail="3.11.2 at /usr/bin/python3")
POOR = Check(name="environment", status=Status.WARN, detail="CUDA_VISIBLE_DEVICES=1", hint="it is kept")
BAD = Check(name="torch", status=Status.FAIL, detail="built without CUDA", hint="install the CUDA build")


def shown(*checks: Check) -> str:
    file = io.StringIO()
    show_diagnosis(Console(file=file, width=80), Diagnosis(checks=checks))
    return file.getvalue()


def test_a_diagnosis(snapshot: SnapshotAssertion) -> None:
    assert shown(GOOD, POOR, BAD) == snapshot


def test_the_conclusion_is_that_of_the_worst_check() -> None:
    assert shown(GOOD).endswith("nothing is amiss\n")
    assert shown(GOOD, POOR).endswith("it works, with the drawbacks above\n")
    assert shown(BAD, POOR).endswith("something above must be mended first\n")


def test_a_long_line_is_not_broken() -> None:
    long = Check(name="torch", status=Status.OK, detail="x " * 100)
    assert len(shown(long).splitlines()[0]) > 200
