"""What a study's tables look like in Markdown: what fits, and how much every job takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.jobs.settings import Settings, method_label, unusual
from profiler.records.card import device_peak_bytes
from profiler.records.schema import OutcomeStatus, Peak, Record
from profiler.records.store import short_model
from profiler.report.base.arrange import Arrangement, Card, Comparison, Grid, Row, arrange, by_card
from profiler.report.base.markdown import code, escape, table
from profiler.report.base.verdict import device_label, outcome_label
from profiler.report.terminal.record import describe_job
from profiler.units import GIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from profiler.records.schema import Device, Environment

_NOT_RUN = "-"
_INFERRED = "OOM\\*"
VIRTUAL = (
    "These figures are **virtual**: PyTorch's own CUDA caching allocator ran over a card that is not there. "
    "Nothing in them was measured on hardware."
)
_LEGEND = (
    "`OOM`: the job ran out of the card's memory. `OOM*`: inferred, not run, because the same job with a "
    "smaller batch or length ran out of memory. `-`: not in the study. All figures are peaks over a whole "
    "run, loading included, in GiB (2^30 bytes). *Allocated* is what live tensors take, *reserved* what "
    "PyTorch's allocator holds for them, *device* what the card has to have: reserved and the CUDA context. "
    "A job fits if its device figure does."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    name: str
    read: Callable[[Record], int | None]


def _of_peak(read: Callable[[Peak], int]) -> Callable[[Record], int | None]:
    return lambda record: None if record.peak is None else read(record.peak)


_FIGURES = (
    _Figure(name="device", read=device_peak_bytes),
    _Figure(name="reserved", read=_of_peak(lambda peak: peak.reserved_bytes)),
    _Figure(name="allocated", read=_of_peak(lambda peak: peak.allocated_bytes)),
)


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


def count_outcomes(records: Iterable[Record]) -> str:
    """`612 records: 431 ok, 81 OOM, 100 OOM (inferred)`."""
    counts = Counter(outcome_label(record.outcome) for record in records)
    return f"{counts.total()} records: " + ", ".join(
        f"{number} {label}" for label, number in sorted(counts.items())
    )


def describe_kinds(cards: Iterable[Card]) -> str:
    """`(virtual)` or `(real)` for a heading, both where there are both."""
    kinds = sorted({_device(card).kind for card in cards})
    return f" ({' and '.join(kinds)})" if kinds else ""


def describe_card(card: Card) -> str:
    """`virtual NVIDIA GeForce RTX 4090 (rtx-4090), 23.52 GiB`; a real card is called real."""
    device = _device(card)
    kind = "" if device.kind == "virtual" else "real "
    return f"{kind}{device_label(device)} ({device.id}), {format_bytes(device.total_bytes)}"


def describe_versions(card: Card) -> str:
    """The versions the figures hold for."""
    first = _environment(card)
    peakvram = sorted({record.environment.peakvram for record in card.records if record.environment})
    versions = [
        (name, getattr(first, name)) for name in ("torch", "transformers", "peft", "bitsandbytes", "driver")
    ]
    return ", ".join(
        f"{name} {value}" for name, value in (*versions, ("peakvram", " and ".join(peakvram))) if value
    )


def _card_parts(card: Card, *, place: str) -> Iterator[str]:
    device = _device(card)
    yield f"## {escape(describe_card(card))}\n"
    if device.kind == "virtual":
        yield f"{VIRTUAL}\n"
    source = f"Records: {code(place)}. {escape(describe_versions(card))}.\n"
    short = f"{device.kind} {device.id}"
    arrangement = arrange(card)
    for grid in arrangement.grids:
        yield from _grid_parts(grid, card=short, source=source)
    for comparison in arrangement.comparisons:
        yield from _comparison_parts(comparison, card=short, source=source)
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
    for figure in _FIGURES:
        yield f"#### {escape(f'Peak {figure.name}, GiB, {card}')}\n"
        yield f"By length x batch. {source}"
        rows = (
            [*_row_cells(row), *(_cell(grid.cells.get((row, column)), figure) for column in grid.columns)]
            for row in grid.rows
        )
        yield table(headings, rows, num_left=2)


def describe_settings(settings: Settings, *, besides: Sequence[str] = ()) -> str:
    """What jobs share: the settings most asked about, others where no default; not `besides`."""
    words = {
        "gradient_checkpointing.enabled": "gradient checkpointing {}",
        "precision": "{}",
        "optimizer": "{}",
        "attention": "{} attention",
    }
    # Inference has neither checkpointing nor an optimizer.
    named = {key: text.format(settings[key]) for key, text in words.items() if key in settings}
    told = ["model", "seq_len", "batch_size", "gpu", "gpu_memory_bytes", *named, *besides]
    told += [key for key in settings if key.startswith("method.")]
    return ", ".join(
        [text for key, text in named.items() if key not in besides] + unusual(settings, besides=told)
    )


def _comparison_parts(comparison: Comparison, *, card: str, source: str) -> Iterator[str]:
    yield f"### {escape(f'By {comparison.key}, GiB, {card}: {_describe_shared(comparison)}')}\n"
    yield source
    rows = ([escape(value), *_figures(record)] for value, record in comparison.records.items())
    yield table([escape(comparison.key), *_headings()], rows, num_left=1)


def _describe_shared(comparison: Comparison) -> str:
    settings, key = comparison.settings, comparison.key
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
        rows = ([escape(_describe_whole(record)), *_figures(record)] for record in arrangement.others)
        yield table(["job", *_headings()], rows, num_left=1)


def _describe_whole(record: Record) -> str:
    return describe_job(record.spec.model_copy(update={"model": short_model(record.spec.model)}))


def _headings() -> list[str]:
    return [f"peak {figure.name}" for figure in _FIGURES]


def _figures(record: Record) -> list[str]:
    return [_cell(record, figure) for figure in _FIGURES]


def _row_cells(row: Row) -> list[str]:
    return [escape(text) for text in row]


def _cell(record: Record | None, figure: _Figure) -> str:
    if record is None:
        return _NOT_RUN
    if record.outcome.status is not OutcomeStatus.OK:
        return _INFERRED if record.outcome.inferred_from else outcome_label(record.outcome)
    size = figure.read(record)
    return "?" if size is None else f"{size / GIB:.2f}"


def _largest_batch(grid: Grid, row: Row, length: int) -> str:
    found = {
        batch: grid.cells[row, (seq, batch)]
        for seq, batch in grid.columns
        if seq == length and (row, (seq, batch)) in grid.cells
    }
    fitting = [batch for batch, record in found.items() if _is_fitting(record)]
    if fitting:
        return str(max(fitting))
    labels = [_cell(record, _FIGURES[0]) for record in found.values()]
    return labels[0] if labels else _NOT_RUN


def _is_fitting(record: Record) -> bool:
    """Whether a job ran, and held no more than its card has: some drivers lend it the host's memory."""
    used = device_peak_bytes(record)
    is_within = used is None or record.device is None or used <= record.device.total_bytes
    return record.outcome.status is OutcomeStatus.OK and is_within


def _device(card: Card) -> Device:
    device = card.records[0].device
    assert device is not None, "a card's records name it"
    return device


def _environment(card: Card) -> Environment:
    environment = card.records[0].environment
    assert environment is not None, "a card's records name their versions"
    return environment
