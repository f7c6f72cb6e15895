"""What a derived formula looks like on a terminal, and how it is told that one is being found."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from profiler.report.base.text import left, literal, plain_table, right, show_blocks, size, titled
from profiler.report.terminal.output import message_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, Group

    from profiler.derive.observe import Point
    from profiler.formula.derived.file import DerivedFile


@contextmanager
def tell_run(first: str) -> Iterator[Callable[[Point], None]]:
    """A line on stderr that says how far a derivation has come, where somebody watches."""
    console = message_console()
    num_runs = 0
    with console.status(literal(first)) as status:

        def on_run(point: Point) -> None:
            nonlocal num_runs
            num_runs += 1
            status.update(literal(f"{first}: {num_runs} runs, the last with {point} tokens"))

        yield on_run


def show_derived(console: Console, file: DerivedFile) -> None:
    """Prints what a formula is of, where it holds and how it was checked."""
    versions = ", ".join(f"{name} {version}" for name, version in file.versions.items() if version)
    show_blocks(
        console,
        [
            literal(f"{file.model}: derived from {file.num_runs} runs on a virtual {file.card.id}", "bold"),
            literal(versions),
            literal("VIRTUAL GPU: nothing here was measured on hardware", "bold magenta"),
        ],
        _regimes_table(file),
        _checks_table(file),
    )


def _regimes_table(file: DerivedFile) -> Group:
    table = plain_table(left("rows", "lengths") | right("runs", "bodies"))
    for number, regime in enumerate(file.regimes):
        seen = [one for one in file.seen if one.regime == number]
        rows, lengths = [one.batch_size for one in seen], [one.seq_len for one in seen]
        num_bodies = len({phase.body for phase in regime.phases})
        table.add_row(_range(rows), _range(lengths), f"{len(seen)}", f"{num_bodies}")
    return titled("Regimes: where it does the same", table)


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _checks_table(file: DerivedFile) -> Group:
    table = plain_table(left("batch") | right("run's peak", "formula", "run's reserved", "formula"))
    for check in file.checks:
        table.add_row(
            literal(f"{check.batch_size} x {check.seq_len}"),
            size(check.allocated_bytes),
            _difference(check.allocated_difference_bytes),
            size(check.reserved_bytes),
            _difference(check.reserved_difference_bytes),
        )
    return titled("Checked at runs it was not derived from", table)


def _difference(count: int) -> str:
    return "equal" if count == 0 else f"{-count:+,} B"
