"""Which records of a study belong in one table: grids, contrasts of one setting, and the rest."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from profiler.jobs.job import METHODS
from profiler.jobs.presets import list_presets
from profiler.jobs.settings import Settings, method_label, settings_of, unusual
from profiler.records.store import short_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from profiler.records.schema import Device, Environment, Record

Row: TypeAlias = tuple[str, str]
"""A model and a method."""
Column: TypeAlias = tuple[int, int]
"""A length and a batch."""
_Signature: TypeAlias = tuple[str, frozenset[tuple[str, str]]]
"""A setting, and what all the others are."""

_OF_THE_CARD = ("gpu", "gpu_memory_bytes")  # which stands above the tables
_OF_THE_CELL = ("model", "seq_len", "batch_size", *_OF_THE_CARD)
_METHOD = "method"
_MAX_SINGLES = 2000
_LIBRARIES = ("torch", "cuda", "transformers", "peft", "bitsandbytes", "accelerate", "driver")


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRecords:
    """The records of one card under certain versions; figures of two such are never in one table."""

    records: tuple[Record, ...]

    @property
    def device(self) -> Device:
        """The card."""
        device = self.records[0].device
        assert device is not None, "a card's records name it"
        return device

    @property
    def environment(self) -> Environment:
        """The versions, as its first record has them."""
        environment = self.records[0].environment
        assert environment is not None, "a card's records name their versions"
        return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Models and methods against lengths and batches, all else equal.

    Attributes:
        settings: of one of the records, for what they share.
        rows: in the order they are shown: models by size.
        columns: by length, then by batch.
        cells: a record may be missing.
    """

    settings: Settings
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[Row, Column], Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Records that differ in one setting alone.

    Attributes:
        key: the setting, such as `optimizer`; `method` for the method as a whole.
        settings: of one of the records, for what they share.
        records: each by its value of the setting.
    """

    key: str
    settings: Settings
    records: Mapping[str, Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Every record of a card in at least one table."""

    grids: tuple[Grid, ...]
    contrasts: tuple[Contrast, ...]
    others: tuple[Record, ...]


def by_card(records: Iterable[Record]) -> tuple[CardRecords, ...]:
    """Tells records of different cards and versions apart; those that name no card are left out."""
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.device is not None and record.environment is not None:
            device = record.device
            versions = (getattr(record.environment, name) for name in _LIBRARIES)
            groups[(device.kind, device.id, device.total_bytes, device.context_bytes, *versions)].append(
                record
            )
    return tuple(CardRecords(records=tuple(groups[key])) for key in sorted(groups, key=str))


def arrange(card: CardRecords) -> Arrangement:
    """Puts a card's records into tables: a row of a grid has two cells or more, others are compared."""
    groups: dict[tuple[tuple[str, str], ...], list[Record]] = defaultdict(list)
    for record in card.records:
        groups[_fixed(settings_of(record.spec))].append(record)
    sizes = model_sizes(card.records)
    made = [_grid(records, sizes) for records in groups.values()]
    grids = [grid for grid in made if grid.cells]
    in_grids = {record.key for grid in grids for record in grid.cells.values()}
    singles = [record for record in card.records if record.key not in in_grids]
    contrasts = _compare(card.records, singles)
    compared = {record.key for contrast in contrasts for record in contrast.records.values()}
    return Arrangement(
        grids=tuple(sorted(grids, key=_usual_first)),
        contrasts=contrasts,
        others=tuple(record for record in singles if record.key not in compared),
    )


def model_sizes(records: Iterable[Record]) -> dict[str, int]:
    """Parameters of each model, as a record or else the preset tells; a model of unknown size comes last."""
    sizes = {preset.id: preset.num_parameters for preset in list_presets()}
    sizes |= {record.spec.model: record.parameters.total for record in records if record.parameters}
    return sizes


def row_of(record: Record) -> Row:
    """The row of a grid that a record is in."""
    return short_model(record.spec.model), method_label(settings_of(record.spec))


def _fixed(settings: Settings) -> tuple[tuple[str, str], ...]:
    """What all records of a grid share."""
    return tuple(
        item for item in settings.items() if item[0] not in _OF_THE_CELL and not item[0].startswith("method.")
    )


def _grid(records: Sequence[Record], sizes: Mapping[str, int]) -> Grid:
    rows: dict[Row, dict[Column, Record]] = defaultdict(dict)
    order: dict[Row, tuple[object, ...]] = {}
    for record in records:
        row = row_of(record)
        rows[row][record.spec.seq_len, record.spec.batch_size] = record
        size = sizes.get(record.spec.model, 1 << 62)
        order[row] = (size, row[0], list(METHODS).index(record.spec.method.kind), natural(row[1]))
    full = _without_lone_cells(rows)
    return Grid(
        settings=settings_of(records[0].spec),
        rows=tuple(sorted(full, key=order.__getitem__)),
        columns=tuple(sorted({column for cells in full.values() for column in cells})),
        cells={(row, column): record for row, cells in full.items() for column, record in cells.items()},
    )


def _usual_first(grid: Grid) -> tuple[object, ...]:
    fixed = dict(_fixed(grid.settings))
    num_unusual = len(unusual({**fixed, "method.kind": grid.settings["method.kind"]}))
    return num_unusual, -len(grid.cells), sorted(fixed.items())


def _without_lone_cells(rows: Mapping[Row, dict[Column, Record]]) -> dict[Row, dict[Column, Record]]:
    """What makes a table: not a column that one row of many has, and not a row of a single cell."""
    long = {row: cells for row, cells in rows.items() if len(cells) > 1}
    counts = Counter(column for cells in long.values() for column in cells)
    kept = {
        row: {c: cells[c] for c in cells if counts[c] > 1 or len(long) == 1} for row, cells in long.items()
    }
    return {row: cells for row, cells in kept.items() if len(cells) > 1}


def _compare(records: Sequence[Record], singles: Sequence[Record]) -> tuple[Contrast, ...]:
    """As few contrasts as show every single record beside one that differs in one setting alone.

    There are none where singles are so many that nobody could read them: each is then listed by itself.
    """
    if len(singles) > _MAX_SINGLES:
        return ()
    families: dict[_Signature, dict[str, Record]] = {s: {} for one in singles for s, _ in _signatures(one)}
    for record in records if singles else ():
        for signature, value in _signatures(record):
            if signature in families:
                families[signature][value] = record
    left = {single.key: [s for s, _ in _signatures(single) if len(families[s]) > 1] for single in singles}
    left = {key: own for key, own in left.items() if own}
    chosen: list[_Signature] = []
    while left:
        counts = Counter(signature for own in left.values() for signature in own)
        # One setting of a method says more than the method as a whole; of equals the name decides.
        best = max(counts, key=lambda own: (own[0] != _METHOD, counts[own], len(families[own]), own[0]))
        chosen.append(best)
        left = {key: own for key, own in left.items() if best not in own}
    return tuple(_contrast(key, families[key, shared]) for key, shared in chosen)


def _contrast(key: str, records: Mapping[str, Record]) -> Contrast:
    ordered = dict(sorted(records.items(), key=lambda item: natural(item[0])))
    return Contrast(key=key, settings=settings_of(next(iter(ordered.values())).spec), records=ordered)


def _signatures(record: Record) -> list[tuple[_Signature, str]]:
    """For each setting what all the others are, and its own value."""
    settings = settings_of(record.spec)
    items = frozenset(item for item in settings.items() if item[0] not in _OF_THE_CARD)
    signatures = [((key, items - {(key, value)}), value) for key, value in items]
    besides = frozenset(item for item in items if not item[0].startswith("method."))
    return [*signatures, ((_METHOD, besides), method_label(settings))]


def natural(text: str) -> list[tuple[int, str]]:
    """A key to sort by in which `r8` comes before `r16`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
