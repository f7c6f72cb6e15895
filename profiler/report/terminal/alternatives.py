"""A trace replayed under other settings, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.report.base.alternatives import conf_text, heading, outcome_text, pool_name, verdict
from profiler.report.base.text import left, literal, right, show_blocks, size, titled_table

if TYPE_CHECKING:
    from rich.console import Console

    from profiler.allocator.alternatives import Alternatives, Capacity
    from profiler.allocator.snapshots import RecordedFile


def show_alternatives(
    console: Console, file: RecordedFile, found: Alternatives, *, card: Capacity | None
) -> None:
    """Prints what was recorded, a row for each configuration, where memory lies unused, and a verdict."""
    columns = left("settings") | right("peak allocated", "peak reserved", "retries")
    if card is not None:
        columns |= left("on the card")
    rows = [
        [
            conf_text(one.alloc_conf),
            size(one.replay.allocated_peak_bytes),
            size(one.replay.reserved_peak_bytes),
            str(one.replay.num_alloc_retries),
            *([outcome_text(one, card)] if card else []),
        ]
        for one in found.tried
    ]
    fragments = [
        [
            pool_name(one),
            str(one.num_segments),
            size(one.reserved_bytes),
            size(one.free_bytes),
            size(one.held_bytes),
            size(one.largest_bytes),
        ]
        for one in found.fragments
    ]
    show_blocks(
        console,
        [literal(line) for line in heading(file, found)],
        titled_table("Replayed", columns, rows),
        titled_table(
            "Where most is reserved, as recorded",
            left("blocks") | right("segments", "reserved", "unused", "of that in use beside", "largest free"),
            fragments,
        ),
        [literal(verdict(found, card), "bold")],
    )
