"""The page of a study: its words, and its records, tables and formulas as plain data, each text once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from profiler.hardware.catalogue import load_catalogue
from profiler.jobs.settings import method_label, settings_of
from profiler.records.fingerprint import identity_of
from profiler.records.schema import device_peak_bytes
from profiler.records.store import short_model
from profiler.report.base.describe import (
    VIRTUAL_FIGURES,
    count_outcomes,
    describe_card,
    describe_job,
    describe_settings,
    describe_versions,
    descriptions_of,
    provenance,
)
from profiler.report.base.parts import COLOURS, parts_of
from profiler.report.base.study_view import describe_fitted_on, find_example
from profiler.report.base.verdict import is_fitting, outcome_label
from profiler.report.page.browser_formula import FORMULA, browser_formula, kind_of
from profiler.report.page.shell import Numbered, fill_page
from profiler.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from profiler.fit.score import Score
    from profiler.records.fingerprint import Identity
    from profiler.records.schema import Device, PhaseReading, Record
    from profiler.report.base.arrange import Grid
    from profiler.report.base.formula_errors import FormulaError
    from profiler.report.base.study_view import CardView, Example, StudyView
    from profiler.report.page.browser_formula import BrowserFormula
    from profiler.report.page.shell import Json

COLUMNS: Final = (
    *("source", "model", "method", "settings", "batch_size", "seq_len", "outcome", "fits"),
    *(
        "allocated_bytes",
        "reserved_bytes",
        "device_bytes",
        "kind",
        "parts",
        "phases",
        "message",
        "notes",
        "key",
    ),
)
"""What each number of a record's row is; texts are numbers into `texts`, 0 bytes are not known."""
SCRIPTS: Final = (
    *("data", "estimate", "matrix", "calculator", "closer", "components", "phases", "growth"),
    *("records", "formulas", "start"),
)
"""In the order they need one another."""
_NOT_CALCULATED = -1
_NO_PHASES = "This study has too many records for one page: the phases of this job are in its record."


def study_page(view: StudyView) -> str:
    """The page. The same study gives the same page."""
    return fill_page(
        "study",
        page_data(view),
        scripts=SCRIPTS,
        name=view.name,
        descriptions=descriptions_of(view.notes),
        counts="; ".join([count_outcomes(view.records), *_left_out(view)]),
        cards=[
            {
                "provenance": provenance(source.device),
                "name": describe_card(source.card),
                "versions": describe_versions(source.card),
            }
            for source in view.cards
        ],
        virtual_note=VIRTUAL_FIGURES.replace("**", "") if view.has_virtual else "",
        commands=[note.command for note in view.notes],
    )


def page_data(view: StudyView) -> Json:
    """Everything the page needs, as JSON can say it."""
    example = find_example(view)
    whole = {identity_of(record): record for _, _, record in example.records} if example else {}
    rows = [
        (place, whole.get(identity_of(record), record))
        for place, source in enumerate(view.cards)
        for record in source.card.records
    ]
    calculator = browser_formula([record.spec for _, record in rows], view.factors)
    texts: Numbered[str] = Numbered()
    places = {(source, record.key): place for place, (source, record) in enumerate(rows)}
    return {
        "study": shown(view.name),
        "sources": [_source(source) for source in view.cards],
        "columns": COLUMNS,
        "records": [_row(source, record, texts, calculator) for source, record in rows],
        "parts": list(COLOURS.items()),
        "grids": [
            _grid(number, grid, places, calculator)
            for number, source in enumerate(view.cards)
            for grid in source.arrangement.grids
        ],
        "errors": [_error(error) for error in view.errors],
        "points": _points(view, rows),
        "factors": {"name": shown(view.factors_name), "fitted_on": describe_fitted_on(view)},
        "start": _start(view, example),
        **({"without_phases": _NO_PHASES} if view.is_large else {}),
        "calculator": calculator.data,
        "texts": list(map(shown, texts)),  # last: everything above has put its texts there
    }


def _source(source: CardView) -> Json:
    device = source.device
    return {
        "card": _in_catalogue(device),
        "name": shown(describe_card(source.card)),
        "provenance": provenance(device),
        "total_bytes": device.total_bytes,
        "context_bytes": device.context_bytes,
        "versions": shown(describe_versions(source.card)),
    }


def _in_catalogue(device: Device) -> str | None:
    """The catalogue's id of a card, which a real one has under the same name; None if it has none."""
    catalogue = load_catalogue()
    if device.id in catalogue:
        return device.id
    return next((gpu.id for gpu in catalogue.values() if gpu.name == device.name), None)


def _row(source: int, record: Record, texts: Numbered[str], calculator: BrowserFormula) -> Json:
    settings, peak = settings_of(record.spec), record.peak
    return [
        source,
        texts[short_model(record.spec.model)],
        texts[method_label(settings)],
        texts[describe_settings(settings)],
        record.spec.batch_size,
        record.spec.seq_len,
        texts[outcome_label(record.outcome)],
        int(is_fitting(record)),
        peak.allocated_bytes if peak else 0,
        peak.reserved_bytes if peak else 0,
        device_peak_bytes(record) or 0,
        calculator.places.get(kind_of(record.spec), _NOT_CALCULATED),
        _components(record, texts),
        [_phase(phase, texts) for phase in record.phases],
        texts[record.outcome.message or ""],
        [texts[note] for note in record.notes],
        record.key,
    ]


def _components(record: Record, texts: Numbered[str]) -> Json:
    """When components were counted, then the bytes of each part; empty where nothing was counted."""
    at = record.components_at
    if record.components is None or at is None or record.peak is None:
        return []
    parts = parts_of(record)
    return [texts[str(at.place)], *(parts.get(name, 0) for name in COLOURS)]


def _phase(phase: PhaseReading, texts: Numbered[str]) -> Json:
    """Name, step or -1, then allocated at the start, at its peak and at the end, and reserved at its peak."""
    name = phase.name if phase.micro_step is None else f"{phase.name}, micro step {phase.micro_step}"
    return [
        texts[name if phase.is_complete else f"{name} (failed)"],
        -1 if phase.step is None else phase.step,
        phase.allocated_start_bytes,
        phase.allocated_peak_bytes,
        phase.allocated_end_bytes,
        phase.reserved_peak_bytes,
    ]


def _grid(source: int, grid: Grid, places: dict[tuple[int, str], int], calculator: BrowserFormula) -> Json:
    """One table: a row has a model, a method, its kind of job for the calculator, and its cells' records."""
    return {
        "source": source,
        "settings": describe_settings(grid.settings),
        "columns": grid.columns,
        "rows": [
            [
                *row,
                _kind_of_row(grid, row, calculator),
                [
                    places[source, grid.cells[row, column].key] if (row, column) in grid.cells else -1
                    for column in grid.columns
                ],
            ]
            for row in grid.rows
        ],
    }


def _kind_of_row(grid: Grid, row: tuple[str, str], calculator: BrowserFormula) -> int:
    record = next(record for (own, _), record in grid.cells.items() if own == row)
    return calculator.places.get(kind_of(record.spec), _NOT_CALCULATED)


def _error(error: FormulaError) -> Json:
    return {
        "id": error.formula.id,
        "title": error.formula.title,
        "source": error.formula.source,
        "num_jobs": error.bare.num_jobs,
        "bare": _score(error.bare),
        "corrected": _score(error.corrected) if error.corrected else None,
    }


def _score(score: Score) -> Json:
    return [score.median, score.p90, score.p95, score.bias]


def _points(view: StudyView, rows: Sequence[tuple[int, Record]]) -> Json:
    """The calculator's formula beside each record: the record, what the bare formula says, and corrected."""
    places = {identity_of(record): place for place, (_, record) in enumerate(rows)}
    return [point for error in view.errors if error.formula is FORMULA for point in _own(error, places)]


def _own(error: FormulaError, places: Mapping[Identity, int]) -> Iterator[Json]:
    corrected = error.corrected_bytes or error.bare_bytes
    for identity, bare, fitted in zip(error.identities, error.bare_bytes, corrected, strict=True):
        yield [places[identity], int(bare), int(fitted)]


def _left_out(view: StudyView) -> Iterator[str]:
    if view.is_large:
        yield "too many for one page: it has the phases of the jobs it opens with alone"


def _start(view: StudyView, example: Example | None) -> Json:
    """What is chosen when the page opens."""
    if example is None:
        first = view.cards[0].card.records[0]
        return {"gpu": view.gpu, "job": describe_job(first.spec), "key": first.key}
    record = example.records[0][2]
    return {"gpu": view.gpu, "job": describe_job(record.spec), "key": record.key}
