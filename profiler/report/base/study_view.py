"""What is shown of a study: its cards, which jobs serve as examples, and the formulas beside its records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.estimate.factors import default_factors, read_factors
from profiler.hardware.catalogue import find_gpu
from profiler.records.schema import OutcomeStatus
from profiler.records.slim import MAX_WHOLE, read_records, whole_records
from profiler.records.store import short_model
from profiler.records.study import read_notes
from profiler.report.base.arrange import Arrangement, CardRecords, Grid, arrange, by_card
from profiler.report.base.describe import provenance
from profiler.report.base.formula_errors import FormulaError, formula_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from profiler.estimate.factors import FactorFile
    from profiler.records.schema import Device, Record
    from profiler.records.store import RecordStore
    from profiler.records.study import SweepNote
    from profiler.report.base.arrange import Column, Row

FACTORS_NAME = "factors.json"
"""A study's own factors, where `peakvram fit` was told to put them there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """One card of a study, under one set of versions."""

    card: CardRecords
    arrangement: Arrangement

    @property
    def device(self) -> Device:
        """The card."""
        return self.card.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Jobs of one model and one batch by all methods, to look at closely.

    Attributes:
        source: the card.
        model: the model.
        column: length and batch.
        records: the finished ones, each with its grid (alike in all but model, method and batch) and its row.
    """

    source: CardView
    model: str
    column: Column
    records: tuple[tuple[Grid, Row, Record], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """A study as it is shown.

    Attributes:
        name: what it is called.
        store: where its records are as a whole.
        records: all of them, slim if there are very many.
        notes: the sweeps it was made with.
        cards: those its records name.
        factors: the correction factors.
        factors_name: where they are from.
        errors: every formula beside the records.
        gpu: the card that was asked for: of the catalogue; None for the study's own.
    """

    name: str
    store: RecordStore
    records: tuple[Record, ...]
    notes: tuple[SweepNote, ...]
    cards: tuple[CardView, ...]
    factors: FactorFile
    factors_name: str
    errors: tuple[FormulaError, ...]
    gpu: str | None

    @property
    def is_large(self) -> bool:
        """Whether its records are slim."""
        return len(self.records) > MAX_WHOLE

    @property
    def provenances(self) -> str:
        """What the figures of all cards are, in a line."""
        return ", ".join(dict.fromkeys(provenance(source.device) for source in self.cards))

    @property
    def has_virtual(self) -> bool:
        """Whether any of the cards is virtual."""
        return any(source.device.kind == "virtual" for source in self.cards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One figure of a study in its files.

    Attributes:
        name: of the files.
        caption: what it shows.
        origin: what its figures are: virtual, measured or estimated.
        paths: its PNG, then its SVG.
    """

    name: str
    caption: str
    origin: str
    paths: tuple[Path, ...]


def view_study(store: RecordStore, *, factors_path: Path | None, gpu: str | None) -> StudyView:
    """Reads a study.

    Args:
        store: the study.
        factors_path: correction factors; None for the study's own or else the shipped ones.
        gpu: the card of the catalogue to answer "does it fit?" for; None for the study's own.

    Raises:
        ConfigError: if no record names its card, there is no such card, or a file is not what it must be.
    """
    records = read_records(store)
    cards = tuple(CardView(card=card, arrangement=arrange(card)) for card in by_card(records))
    if not cards:
        what = "no record" if not records else "no record that names its card"
        raise ConfigError(f"there is {what} in {store.directory}", hint="`peakvram sweep` puts them there")
    own = store.directory / FACTORS_NAME
    path = factors_path or (own if own.is_file() else None)
    factors = read_factors(path) if path else default_factors()
    return StudyView(
        name=store.directory.resolve().name,
        store=store,
        records=records,
        notes=read_notes(store.directory).sweeps,
        cards=cards,
        factors=factors,
        factors_name=path.name if path else "shipped with peakvram",
        errors=formula_errors(records, factors),
        gpu=find_gpu(gpu).id if gpu else None,
    )


def find_example(view: StudyView) -> Example | None:
    """The model with most records, at the largest batch that most methods finished; None without grids."""
    for source in view.cards:
        cells = _finished(source)
        if not cells:
            continue
        counts = Counter(short_model(record.spec.model) for record in source.card.records)
        model = max((model for model, _ in cells), key=lambda name: counts[name])
        own = {column: rows for (name, column), rows in cells.items() if name == model}
        column = max(own, key=lambda at: (len({row for _, row, _ in own[at]}), at[0] * at[1], at[0]))
        grids, rows, records = zip(*own[column], strict=True)
        whole = whole_records(view.store, records)
        return Example(
            source=source, model=model, column=column, records=tuple(zip(grids, rows, whole, strict=True))
        )
    return None


def describe_fitted_on(view: StudyView) -> str:
    """Which records the factors were fitted on, and whether this study's are among them."""
    fitted = view.factors.fitted_on
    kinds = " and ".join(fitted.device_kinds)
    text = f"fitted on {fitted.num_records:,} {kinds} records of {', '.join(fitted.studies)}"
    seen = "; a study of this name is among them: on other jobs errors are larger"
    return text + (seen if view.name in fitted.studies else "")


def _finished(source: CardView) -> Mapping[tuple[str, Column], Sequence[tuple[Grid, Row, Record]]]:
    """The finished records of grids by model, length and batch; grids of several rows if there are any."""
    cells: dict[tuple[str, Column], list[tuple[Grid, Row, Record]]] = {}
    grids = source.arrangement.grids
    several = [grid for grid in grids if len(grid.rows) > 1]
    for grid in several or grids:
        for (row, column), record in grid.cells.items():
            if record.outcome.status is OutcomeStatus.OK and record.components is not None:
                cells.setdefault((row[0], column), []).append((grid, row, record))
    return cells
