"""What a study's tables look like in Markdown: what fits, and how much every job takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.jobs.settings import method_label
from profiler.records.schema import OutcomeStatus, Peak, Record, device_peak_bytes
from profiler.records.store import short_model
from profiler.report.base.arrange import Arrangement, CardRecords, Contrast, Grid, Row, arrange, by_card
from profiler.report.base.describe import (
    VIRTUAL_FIGURES,
    count_outcomes,
    describe_card,
    describe_kinds,
    describe_settings,
    describe_versions,
    short_job,
)
from profiler.report.base.verdict import is_fitting, outcome_label
from profiler.report.markdown.write import code, escape, notes_list, table
from profiler.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_NOT_RUN = "-"
_INFERRED = "OOM\\*"
_LEGEND = (
    "`OOM`: the job ran out of the card's memory. `OOM*`: inferred, not run, because the same job with a "
    "smaller batch or length ran out of memory. `-`: not in the study. All figures are peaks over a whole "
    "run, loading included, in GiB (2^30 bytes). *Allocated* is what live tensors take, *reserved* what "
    "PyTorch's allocator holds for them, *device* what the card has to have: reserved and the CUDA context. "
    "A job fits if its device figure does."
)


def _of_peak(read: Callable[[Peak], int]) -> Callable[[Record], int | None]:
    return lambda record: None if record.peak is None else read(record.peak)


_PEAKS: Mapping[str, Callable[[Record], int | None]] = {
    "device": device_peak_bytes,
    "reserved": _of_peak(lambda peak: peak.reserved_bytes),
    "allocated": _of_peak(lambda peak: peak.allocated_bytes),
}


def study_tables(records: Sequence[Record], *, name: str, place: str) -> str:
    """All tables of a study, each under a heading that says which card, virtual or real.

    Args:
        records: the study's.
        name: what the study is called.
        place: where its records are, named with every table.
    """
    cards = by_card(records)
    parts = [
        f"# {escape(name)}: tables{describe_kinds(cards)}\n",
        f"{count_outcomes(records)}.\n",
        f"{_LEGEND}\n",
    ]
    for card in cards:
        parts += _card_parts(card, place=place)
    num_left = sum(record.device is None or record.environment is None for record in records)
    if num_left:
        parts.append(f"{num_left} more records tell of no card: their processes ended before they could.\n")
    return "\n".join(parts)


def _card_parts(card: CardRecords, *, place: str) -> Iterator[str]:
    device = card.device
    yield f"## {escape(describe_card(card))}\n"
    if device.kind == "virtual":
        yield f"{VIRTUAL_FIGURES}\n"
    source = f"Records: {code(place)}. {escape(describe_versions(card))}.\n"
    short = f"{device.kind} {device.id}"
    arrangement = arrange(card)
    for grid in arrangement.grids:
        yield from _grid_parts(grid, card=short, source=source)
    for contrast in arrangement.contrasts:
        yield from _contrast_parts(contrast, card=short, source=source)
    yield from _other_parts(arrangement, card=short, source=source)


def _grid_parts(grid: Grid, *, card: str, source: str) -> Iterator[str]:
    yield f"### {escape(f'{card}: {describe_settings(grid.settings)}')}\n"
    lengths = sorted({length for length, _ in grid.columns})
    yield f"#### {escape(f'Largest batch that fits, {card}')}\n"
    tried = ", ".join(str(batch) for batch in sorted({batch for _, batch in grid.columns}))
    yield f"Of the batches {tried}, by length in tokens. {source}"
    fits = (
        [*_row_cells(row), *(_largest_batch(grid, row, length) for length in lengths)] for row in grid.rows
    )
    yield table(["model", "method", *map(str, lengths)], fits, num_left=2)
    headings = ["model", "method", *(f"{length} x {batch}" for length, batch in grid.columns)]
    for figure in _PEAKS:
        yield f"#### {escape(f'Peak {figure}, GiB, {card}')}\n"
        yield f"By length x batch. {source}"
        rows = (
            [*_row_cells(row), *(_cell(grid.cells.get((row, column)), figure) for column in grid.columns)]
            for row in grid.rows
        )
        yield table(headings, rows, num_left=2)


def _contrast_parts(contrast: Contrast, *, card: str, source: str) -> Iterator[str]:
    yield f"### {escape(f'By {contrast.key}, GiB, {card}: {_describe_shared(contrast)}')}\n"
    yield source
    rows = ([escape(value), *_figures(record)] for value, record in contrast.records.items())
    yield table([escape(contrast.key), *_headings()], rows, num_left=1)


def _describe_shared(contrast: Contrast) -> str:
    settings, key = contrast.settings, contrast.key
    parts = {
        "model": short_model(settings["model"]),
        "method": method_label(settings, besides=key),
        "batch_size": f"batch {settings['batch_size']}",
        "seq_len": f"{settings['seq_len']} tokens",
    }
    texts = [text for name, text in parts.items() if name != key]
    return ", ".join([*texts, describe_settings(settings, besides=[key])])


def _other_parts(arrangement: Arrangement, *, card: str, source: str) -> Iterator[str]:
    if arrangement.others:
        yield f"### {escape(f'Other jobs, GiB, {card}')}\n"
        yield source
        rows = ([escape(short_job(record.spec)), *_figures(record)] for record in arrangement.others)
        yield table(["job", *_headings()], rows, num_left=1)
        if notes := notes_list(arrangement.others):
            yield notes


def _headings() -> list[str]:
    return [f"peak {figure}" for figure in _PEAKS]


def _figures(record: Record) -> list[str]:
    return [_cell(record, figure) for figure in _PEAKS]


def _row_cells(row: Row) -> list[str]:
    return [escape(text) for text in row]


def _cell(record: Record | None, figure: str) -> str:
    if record is None:
        return _NOT_RUN
    if record.outcome.status is not OutcomeStatus.OK:
        return _INFERRED if record.outcome.inferred_from else outcome_label(record.outcome)
    size = _PEAKS[figure](record)
    return "?" if size is None else f"{size / GIB:.2f}"


def _largest_batch(grid: Grid, row: Row, length: int) -> str:
    by_batch = {
        batch: grid.cells[row, (seq, batch)]
        for seq, batch in grid.columns
        if seq == length and (row, (seq, batch)) in grid.cells
    }
    fitting = [batch for batch, record in by_batch.items() if is_fitting(record)]
    if fitting:
        return str(max(fitting))
    labels = [_cell(record, "device") for record in by_batch.values()]
    return labels[0] if labels else _NOT_RUN
