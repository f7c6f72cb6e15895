"""Many records at once: what tables and comparisons need of each, equal parts in memory once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from profiler.records.fingerprint import identity_of
from profiler.records.naming import record_file_name
from profiler.records.schema import Environment, Record

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pydantic import BaseModel

    from profiler.records.store import RecordStore

Part = TypeVar("Part", bound="BaseModel")

MAX_WHOLE: Final = 10_000
"""So many records of a study are kept as they are; of more, each is slim."""

_LEFT_OUT = {"phases": (), "peak_load": None, "peak_step": None, "steady": None}
_SHARED = (
    *("environment", "device", "outcome", "components_at", "parameters", "value_reads", "notes"),
    *("schema_version", "managed_bytes"),
)


class Slimmer:
    """Makes records slim: without their phases and what is read from single phases."""

    def __init__(self) -> None:
        """Nothing is shared yet."""
        self._known: dict[Hashable, object] = {}

    def slim(self, record: Record, *, has_components: bool = True) -> Record:
        """The record with its job, card, software, outcome, peak and components.

        Args:
            record: a record.
            has_components: whether they are wanted.
        """
        fields = dict(record) | _LEFT_OUT
        fields |= {name: self._one(fields[name]) for name in _SHARED}
        fields["spec"] = self._one(_light(record.spec, **self._parts(record.spec)))
        fields["peak"] = record.peak and _light(record.peak)
        fields["components"] = _light(record.components) if record.components and has_components else None
        return Record.model_construct(_fields_of(Record), **fields)

    def _parts(self, spec: BaseModel) -> dict[str, object]:
        return {name: self._one(value) for name, value in spec}

    def _one(self, value: object) -> object:
        """The first of all equal values."""
        if isinstance(value, Environment):  # which has a dict in it
            facts = tuple(repr(part) for _, part in value)
            return self._known.setdefault((Environment, facts), value)
        return self._known.setdefault((type(value), value), value)


def read_records(store: RecordStore) -> tuple[Record, ...]:
    """All records of a study, slim if there are more than `MAX_WHOLE`.

    Raises:
        ConfigError: if the directory cannot be read.
    """
    slimmer, is_large = Slimmer(), store.num_records() > MAX_WHOLE
    records = (stored.record for stored in store.read())
    return tuple(map(slimmer.slim, records) if is_large else records)


def whole_records(store: RecordStore, records: Iterable[Record]) -> Iterator[Record]:
    """The same records, in the same order, as they are stored."""
    for record in records:
        found = None
        if _is_slim(record):
            found = store.find(*identity_of(record), name=record_file_name(record))
        yield found or record


def _is_slim(record: Record) -> bool:
    return record.peak is not None and not record.phases


def _light(part: Part, **changes: object) -> Part:
    """An equal value that shares with others what pydantic notes of its fields."""
    return type(part).model_construct(_fields_of(type(part)), **{**dict(part), **changes})


@cache
def _fields_of(kind: type[BaseModel]) -> set[str]:
    return set(kind.model_fields)
