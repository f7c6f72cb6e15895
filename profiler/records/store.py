"""Where records are kept: one JSON file each, or a whole study packed into one file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import ConfigError
from profiler.files import check_directory, reason_of, write_file
from profiler.records.fingerprint import fingerprint_of, identity_of
from profiler.records.migrate import NotARecordError, parse_record
from profiler.records.packed import PACK_NAME, Stored, Unreadable, read_pack
from profiler.records.schema import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from profiler.records.fingerprint import Identity

__all__ = [
    "RecordStore",
    "Scan",
    "Stored",
    "Unreadable",
    "check_directory",
    "read_record",
    "record_file_name",
    "short_model",
    "write_record",
]

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a study's directory holds.

    Attributes:
        records: one a job and fingerprint, the newest, by file name; of equally old ones the loose file.
        problems: what could not be read, and why; nothing of it was touched.
    """

    records: tuple[Stored, ...]
    problems: tuple[Unreadable, ...]


class RecordStore:
    """The records of one study: `DIR/records/*.json`, and `DIR/records.jsonl.gz` once it is packed.

    Any number of processes may put and read at once: a record is written whole or not at all, and a job and
    its fingerprint name its file, so that no two jobs share one.
    """

    def __init__(self, directory: Path) -> None:
        """Opens the study in `directory`, which need not be there yet."""
        self.directory = directory
        self.records_directory = directory / "records"
        self.pack_path = directory / PACK_NAME

    def put(self, record: Record) -> Path:
        """Stores a record in place of an earlier one of the same job and fingerprint; returns its path.

        Raises:
            EnvironmentUnfitError: if it cannot be stored: no room, no permission, no directory.
        """
        return write_record(self.records_directory, record)

    def scan(self) -> Scan:
        """Reads everything; what is no record is reported and skipped.

        Raises:
            ConfigError: if the directory itself cannot be read.
        """
        items = [*self._read_loose(), *read_pack(self.pack_path)]
        return Scan(
            records=_newest(item for item in items if isinstance(item, Stored)),
            problems=tuple(item for item in items if isinstance(item, Unreadable)),
        )

    def find(self, key: str, fingerprint: str | None) -> Record | None:
        """The newest record of a job under a fingerprint, by its file's name and in the pack; None for none.

        Unlike `scan`, it sees at once what another process has just put, at the price of one file.
        """
        paths = sorted(self.records_directory.glob(f"*--{key}*.json"))
        items = (*_read_files(paths), *read_pack(self.pack_path, key=key))
        stored = [item for item in items if isinstance(item, Stored)]
        matching = [item for item in stored if identity_of(item.record) == (key, fingerprint)]
        return _newest(matching)[0].record if matching else None

    def _read_loose(self) -> Iterator[Stored | Unreadable]:
        if not self.records_directory.exists():
            return
        try:
            paths = sorted(self.records_directory.iterdir())
        except OSError as error:
            raise ConfigError(f"cannot read {self.records_directory}: {reason_of(error)}") from error
        # A name with a dot in front is a record on its way, or the rest of a writer that was killed.
        yield from _read_files(path for path in paths if not path.name.startswith("."))


def write_record(directory: Path, record: Record) -> Path:
    """Writes a record into `directory`, made if missing, whole or not at all; returns the file's path.

    Raises:
        EnvironmentUnfitError: if the record cannot be stored there: no room, no permission, no directory.
    """
    path = directory / record_file_name(record)
    write_file(path, record.model_dump_json(indent=2) + "\n")
    return path


def read_record(path: Path) -> Record:
    """Reads a record, of this schema version or an older one.

    Raises:
        ConfigError: if the file cannot be read or is no such record.
    """
    try:
        return _load(path)
    except NotARecordError as error:
        raise ConfigError(
            f"{path} is no record: {error}",
            hint=f"this version reads whole records up to schema version {SCHEMA_VERSION}",
        ) from None


def record_file_name(record: Record) -> str:
    """The name of a record's file: model, method, card, key and fingerprint, in safe letters.

    A record that tells of no surroundings (its process ended before it could) has no fingerprint in its name.
    """
    model = _slug(short_model(record.spec.model))
    card = _slug(record.device.id if record.device else record.spec.gpu)
    parts = (model, record.spec.method.kind, card, record.key, fingerprint_of(record))
    return "--".join(part for part in parts if part is not None) + ".json"


def short_model(model: str) -> str:
    """A local directory's own name alone: where it stands is nobody's business; any other model as it is."""
    return (Path(model).name or Path.cwd().name) if model.startswith((".", "/", "~")) else model


def _read_files(paths: Iterable[Path]) -> Iterator[Stored | Unreadable]:
    for path in paths:
        try:
            yield Stored(path=path, record=_load(path))
        except NotARecordError as error:
            yield Unreadable(path=path, reason=str(error))


def _load(path: Path) -> Record:
    try:
        return parse_record(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotARecordError(f"it cannot be read: {reason_of(error)}") from None
    except UnicodeDecodeError:
        raise NotARecordError("it is not UTF-8 text") from None


def _newest(found: Iterable[Stored]) -> tuple[Stored, ...]:
    newest: dict[Identity, Stored] = {}
    for item in found:
        known = newest.setdefault(identity_of(item.record), item)
        if item.record.created_at > known.record.created_at:
            newest[identity_of(item.record)] = item
    return tuple(sorted(newest.values(), key=lambda item: record_file_name(item.record)))


def _slug(text: str) -> str:
    # Names of files hold 255 bytes; key, method and card leave far more than 80 for the model.
    return _NOT_IN_A_NAME.sub("-", text.lower()).strip("-.")[:80] or "unnamed"
