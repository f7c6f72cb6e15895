"""What the checks of a machine look like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from profiler.doctor.checks import Check, Diagnosis, Status
from profiler.report.base.text import literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
_CONCLUSIONS = {
    Status.OK: "nothing is amiss",
    Status.WARN: "it works, with the drawbacks above",
    Status.FAIL: "something above must be mended first",
}


def show_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Prints one line a check, with a hint below it where something is amiss, and a conclusion."""
    width = max((len(check.name) for check in diagnosis.checks), default=0)
    for check in diagnosis.checks:
        for line in _lines(check, name_width=width):
            console.print(line, soft_wrap=True)
    console.print()
    console.print(Text(_CONCLUSIONS[diagnosis.status], style=_STYLES[diagnosis.status]))


def _lines(check: Check, *, name_width: int) -> Iterator[Text]:
    status = Text(f"{check.status:<4}", style=_STYLES[check.status])
    yield Text("  ").join([status, literal(check.name.ljust(name_width)), literal(check.detail)])
    if check.hint:
        yield literal(f"{'':<6}{'':<{name_width}}  hint: {check.hint}")
